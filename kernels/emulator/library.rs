//! The emulated device's library: its functions, and where in the sources its code comes from.

use std::path::{Path, PathBuf};
use std::process::Command;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use crate::Calls;
use crate::counters::TakeCounters;

/// The functions of `driver/control.cpp`.
#[derive(Clone, Debug)]
pub(crate) struct Functions {
    pub(crate) set_schedule: unsafe extern "C" fn(i32, i32),
    pub(crate) take_report: unsafe extern "C" fn(*mut u8, usize) -> usize,
    pub(crate) take_counters: TakeCounters,
    pub(crate) set_cache: unsafe extern "C" fn(usize),
    pub(crate) set_device: unsafe extern "C" fn(i32, i32, i32, usize, bool),
    pub(crate) fail_after: unsafe extern "C" fn(i32, u64),
    pub(crate) spare: unsafe extern "C" fn() -> bool,
    pub(crate) take_calls: unsafe extern "C" fn(*mut Calls),
    pub(crate) allocate: unsafe extern "C" fn(usize) -> *mut u8,
    pub(crate) release: unsafe extern "C" fn(*mut u8),
    pub(crate) launch: unsafe extern "C" fn(*const i8, *const u32, u32, *const u8, usize) -> i32,
}

impl Functions {
    /// Loads a library that stays for good.
    pub(crate) fn load(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: the library's initialisers fill a table of kernels and touch nothing else.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }?;
        // The driver's functions are looked up in it again and again.
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: the signatures are those of driver/control.cpp.
        unsafe {
            Ok(Self {
                set_schedule: *function(library, "emulator_set_schedule")?,
                take_report: *function(library, "emulator_take_report")?,
                take_counters: *function(library, "emulator_take_counters")?,
                set_cache: *function(library, "emulator_set_cache")?,
                set_device: *function(library, "emulator_set_device")?,
                fail_after: *function(library, "emulator_fail_after")?,
                spare: *function(library, "emulator_spare")?,
                take_calls: *function(library, "emulator_take_calls")?,
                allocate: *function(library, "emulator_allocate")?,
                release: *function(library, "emulator_release")?,
                launch: *function(library, "emulator_launch")?,
            })
        }
    }
}

/// # Safety
///
/// `F` is the type of the function.
unsafe fn function<F>(library: &Library, name: &str) -> Result<Symbol<F>, libloading::Error> {
    // SAFETY: by the contract.
    unsafe { library.get(name.as_bytes()) }
}

/// Whether the process has a library of this name.
pub(crate) fn is_loaded(name: &str) -> bool {
    const RTLD_NOLOAD: i32 = 4;
    // SAFETY: loads nothing, so no initialiser runs.
    unsafe { Library::open(Some(name), RTLD_NOLOAD | RTLD_NOW) }.is_ok()
}

/// `ops/rms_norm/rms_norm.cu:23` for an offset in the library; the offset itself where the
/// system cannot tell.
pub(crate) fn locate(library: &Path, offset: u64) -> String {
    // The offset is that of the instruction after the one in question.
    let address = format!("{:#x}", offset.saturating_sub(1));
    let output = Command::new("addr2line")
        .args(["-i", "-e"])
        .arg(library)
        .arg(&address)
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    // Innermost first: what stands in for an instruction, then who calls it.
    let frames = text.lines().filter(|line| !line.contains("??"));
    let mut frames = frames.map(|line| {
        let own = line.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/"));
        line.rsplit_once("../")
            .map_or(own.unwrap_or(line), |(_, end)| end)
    });
    let frame = frames.find(|line| !line.contains("shadow/"));
    frame.map_or(address, |line| {
        line.split_once(" (")
            .map_or(line, |(place, _)| place)
            .to_owned()
    })
}

/// The report with each `{site 0x12}` replaced by the place it stands for.
pub(crate) fn resolve(library: &Path, report: &str) -> String {
    const MARK: &str = "{site 0x";
    let mut text = String::new();
    let mut rest = report;
    while let Some((before, after)) = rest.split_once(MARK) {
        let (digits, after) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        text.push_str(&locate(
            library,
            u64::from_str_radix(digits, 16).unwrap_or_default(),
        ));
        rest = after;
    }
    text + rest
}

/// The address sanitizer's library, which a process must load before the sanitised build.
pub(crate) fn sanitizer() -> Option<PathBuf> {
    let output = Command::new(env!("EMULATOR_CXX"))
        .arg("-print-file-name=libasan.so")
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    path.is_absolute().then_some(path)
}
