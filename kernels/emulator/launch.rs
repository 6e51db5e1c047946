//! Launches apart from the driver, for tests of the emulated device itself.

use std::ffi::CString;

use crate::Emulator;

/// A launch apart from the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch<'a> {
    /// The kernel's name.
    pub kernel: &'a str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block in bytes.
    pub shared_bytes: u32,
}

impl Emulator {
    /// Memory of the device that holds `values`; its address is the host's too.
    ///
    /// # Panics
    ///
    /// Where the device has no room.
    pub fn memory(&self, values: &[f32]) -> Memory<'_> {
        // SAFETY: takes a plain number.
        let start = unsafe { (self.functions.allocate)(size_of_val(values)) }.cast::<f32>();
        assert!(!start.is_null(), "the emulated device has no room");
        // SAFETY: the memory was just allocated, with room for the values.
        unsafe { start.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        Memory {
            emulator: self,
            start,
            len: values.len(),
        }
    }

    /// Runs a kernel at once and apart from the driver.
    ///
    /// # Errors
    ///
    /// The report of a launch that failed.
    ///
    /// # Safety
    ///
    /// `params` is the kernel's parameter structure, and its pointers are the device's.
    pub unsafe fn launch<P: Copy>(&self, launch: &Launch<'_>, params: &P) -> Result<(), String> {
        let name = CString::new(launch.kernel).map_err(|error| error.to_string())?;
        let [[gx, gy, gz], [bx, by, bz]] = [launch.grid, launch.block];
        let shape = [gx, gy, gz, bx, by, bz];
        // SAFETY: name, shape and parameters live through the call; the rest is the contract.
        let ran = unsafe {
            (self.functions.launch)(
                name.as_ptr(),
                shape.as_ptr(),
                launch.shared_bytes,
                (&raw const *params).cast(),
                size_of::<P>(),
            )
        };
        match ran {
            0 => Err(self.take_report().unwrap_or_default()),
            _ => Ok(()),
        }
    }
}

/// Device memory of a launch apart from the driver.
#[derive(Debug)]
pub struct Memory<'a> {
    emulator: &'a Emulator,
    start: *mut f32,
    len: usize,
}

impl Memory<'_> {
    /// Its device address.
    pub fn pointer(&self) -> *mut f32 {
        self.start
    }

    /// What it holds.
    pub fn values(&self) -> Vec<f32> {
        // SAFETY: the memory lives as long as this, and no launch runs now: they run at once.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }.to_vec()
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's own.
        unsafe { (self.emulator.functions.release)(self.start.cast()) };
    }
}
