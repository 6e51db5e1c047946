//! How calls end.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnwardStatus {
    /// It did what it was to do.
    Ok = 0,
    /// An argument that is none: a null pointer, a text that is not UTF-8, a number out of its
    /// range.
    InvalidArgument = 1,
    /// A model that cannot be loaded, or a device that cannot be used.
    LoadFailed = 2,
    /// A request that cannot be served as it stands.
    InvalidRequest = 3,
    /// Too many requests wait already; later there may be room.
    QueueFull = 4,
    /// The engine has failed, and serves nothing any more.
    EngineFailed = 5,
    /// The request has ended, and its last event was given out.
    Ended = 6,
    /// A fault in onward itself.
    Panicked = 7,
}

/// A failed call: its status and why.
pub(crate) type Failure = (OnwardStatus, String);

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Why this thread's last call that failed did so. The text lasts until the thread's next call.
#[unsafe(no_mangle)]
pub extern "C" fn onward_last_error() -> *const c_char {
    LAST.with_borrow(|text| text.as_ptr())
}

/// Runs a call; neither an error nor a panic gets past it.
pub(crate) fn call(work: impl FnOnce() -> Result<(), Failure>) -> OnwardStatus {
    let panicked = |_| Err((OnwardStatus::Panicked, "onward has panicked".to_owned()));
    match catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked) {
        Ok(()) => OnwardStatus::Ok,
        Err((status, why)) => {
            let why = CString::new(why.replace('\0', "?")).unwrap_or_default();
            LAST.set(why);
            status
        }
    }
}

/// An argument that is none.
pub(crate) fn invalid(why: impl Into<String>) -> Failure {
    (OnwardStatus::InvalidArgument, why.into())
}

/// The text of an argument.
///
/// # Safety
/// Null, or a text that ends with a zero and lasts as long as the result is used.
pub(crate) unsafe fn text<'a>(what: &str, pointer: *const c_char) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(invalid(format!("{what} is null")));
    }
    // SAFETY: not null, and so a text.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|_| invalid(format!("{what} is not UTF-8")))
}

/// What an argument points to.
///
/// # Safety
/// Null, or a valid pointer to what nobody changes as long as the result is used.
pub(crate) unsafe fn shared<'a, T>(what: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: by the caller.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid(format!("{what} is null")))
}

/// What an argument points to, to be changed.
///
/// # Safety
/// Null, or a valid pointer to what nobody else uses as long as the result is used.
pub(crate) unsafe fn alone<'a, T>(what: &str, pointer: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: by the caller.
    unsafe { pointer.as_mut() }.ok_or_else(|| invalid(format!("{what} is null")))
}
