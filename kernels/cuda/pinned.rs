//! Memory of the host that a GPU writes while the host reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::{CudaStream, result, sys};

use super::array::failed;
use super::device::Device;
use super::driver;
use crate::error::{Error, Result};

/// An array of `T` in pinned memory, zeroed, at the same address for host and device.
#[derive(Debug)]
pub(crate) struct PinnedArray<T> {
    start: *mut T,
    len: usize,
    /// Whose work may write the array.
    stream: Arc<CudaStream>,
}

// SAFETY: plain memory; whoever writes it from the host holds it alone.
unsafe impl<T: Send> Send for PinnedArray<T> {}
// SAFETY: shared access only reads.
unsafe impl<T: Sync> Sync for PinnedArray<T> {}

impl<T: bytemuck::Zeroable + Copy> PinnedArray<T> {
    /// `len` zeros; `what` names the array in the error.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the driver says.
    pub(crate) fn zeroed(device: &Device, what: &'static str, len: usize) -> Result<Self> {
        let bytes = len.saturating_mul(size_of::<T>());
        if bytes > isize::MAX as usize {
            return Err(Error::OutOfMemory { what, bytes });
        }
        let stream = device.stream().clone();
        let start = match bytes {
            0 => std::ptr::null_mut(),
            // Not write-combined: the host reads it.
            _ => {
                let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
                // SAFETY: the memory is freed once, by `drop`.
                unsafe { result::malloc_host(bytes, flags) }.map_err(|error| {
                    match driver::is_out_of_memory(error) {
                        true => Error::OutOfMemory { what, bytes },
                        false => failed(format!("pin {bytes} bytes for {what}"), error),
                    }
                })?
            }
        };
        if !start.is_null() {
            // SAFETY: as many bytes were just allocated, and zeros are a `T`.
            unsafe { start.cast::<u8>().write_bytes(0, bytes) };
        }
        Ok(Self {
            start: start.cast(),
            len,
            stream,
        })
    }

    /// What element `index` is just now.
    ///
    /// # Panics
    /// If there is no such element.
    pub(crate) fn get(&self, index: usize) -> T {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: within the array; volatile, as the device writes behind the compiler's back.
        unsafe { self.start.add(index).read_volatile() }
    }

    /// The array's address, for host and device.
    pub(crate) fn pointer(&self) -> *mut T {
        self.start
    }
}

impl<T> PinnedArray<T> {
    /// Waits for the work that may write the array.
    ///
    /// # Errors
    /// What the driver says of it.
    pub(crate) fn synchronise(&self) -> Result<()> {
        (self.stream.synchronize()).map_err(|error| failed("finish its work", error))
    }
}

impl PinnedArray<u32> {
    /// What element `index` is just now; whatever the device wrote before it is seen afterwards.
    ///
    /// # Panics
    /// If there is no such element.
    pub(crate) fn acquire(&self, index: usize) -> u32 {
        self.atomic(index).load(Ordering::Acquire)
    }

    /// Sets element `index`, which no work under way writes.
    ///
    /// # Panics
    /// If there is no such element.
    pub(crate) fn set(&mut self, index: usize, value: u32) {
        self.atomic(index).store(value, Ordering::Release);
    }

    fn atomic(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: within the array, aligned, and alive as long as `self`.
        unsafe { AtomicU32::from_ptr(self.start.add(index)) }
    }
}

impl<T> Drop for PinnedArray<T> {
    fn drop(&mut self) {
        if !self.start.is_null() {
            // Work that writes it comes first. An error is the device's last word, which whoever
            // uses it next will hear.
            let _ = self.stream.synchronize();
            // SAFETY: allocated by `zeroed`, and nothing uses it any more.
            let _ = unsafe { result::free_host(self.start.cast()) };
        }
    }
}
