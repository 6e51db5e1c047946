//! Arrays in device memory.

use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits};

use super::device::Device;
use super::driver;
use crate::backend::Array;
use crate::error::{Error, Result};

/// An array of `T` on a device. All work on it goes on the device's one stream, so an operation
/// sees what those before it wrote.
#[derive(Debug)]
pub(crate) struct DeviceArray<T> {
    /// None where the array is empty, which the driver does not allocate.
    slice: Option<CudaSlice<T>>,
}

impl<T: DeviceRepr + ValidAsZeroBits> DeviceArray<T> {
    /// `len` zeros; `what` names the array in the error.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the device has no room, or what the driver says.
    pub(crate) fn zeroed(device: &Device, what: &'static str, len: usize) -> Result<Self> {
        let mut array = Self::uninitialised(device, what, len)?;
        if let Some(slice) = &mut array.slice {
            device
                .stream()
                .memset_zeros(slice)
                .map_err(|error| failed(format!("clear {what}"), error))?;
        }
        Ok(array)
    }
}

impl<T: DeviceRepr> DeviceArray<T> {
    /// `len` values that are yet to be written.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub(crate) fn uninitialised(device: &Device, what: &'static str, len: usize) -> Result<Self> {
        let bytes = len.saturating_mul(size_of::<T>());
        if bytes > isize::MAX as usize {
            return Err(Error::OutOfMemory { what, bytes });
        }
        if len == 0 {
            return Ok(Self { slice: None });
        }
        // SAFETY: kernels and copies write the values before they are read.
        let slice = unsafe { device.stream().alloc::<T>(len) }.map_err(|error| {
            match driver::is_out_of_memory(error) {
                true => Error::OutOfMemory { what, bytes },
                false => failed(format!("allocate {bytes} bytes for {what}"), error),
            }
        })?;
        Ok(Self { slice: Some(slice) })
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub(crate) fn upload(device: &Device, what: &'static str, values: &[T]) -> Result<Self> {
        let mut array = Self::uninitialised(device, what, values.len())?;
        array.write(device, values)?;
        Ok(array)
    }

    /// Overwrites the first values of the array, which has room for them.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn write(&mut self, device: &Device, values: &[T]) -> Result<()> {
        self.write_at(device, 0, values)
    }

    /// Overwrites the values from `start` on; the array has room for them.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn write_at(&mut self, device: &Device, start: usize, values: &[T]) -> Result<()> {
        let Some(slice) = self.slice.as_mut().filter(|_| !values.is_empty()) else {
            return Ok(());
        };
        let mut view = slice.slice_mut(start..start + values.len());
        device
            .stream()
            .memcpy_htod(values, &mut view)
            .map_err(|error| failed("copy values to the GPU", error))
    }

    /// Copies the values from `start` on into `out` and waits until they are there.
    ///
    /// # Errors
    /// What the driver says, of this copy or of work before it.
    pub(crate) fn read(&self, device: &Device, start: usize, out: &mut [T]) -> Result<()> {
        if let Some(slice) = self.slice.as_ref().filter(|_| !out.is_empty()) {
            device
                .stream()
                .memcpy_dtoh(&slice.slice(start..start + out.len()), out)
                .map_err(|error| failed("copy values from the GPU", error))?;
        }
        device.synchronise()
    }

    /// Values in the array.
    pub(crate) fn len(&self) -> usize {
        self.slice.as_ref().map_or(0, CudaSlice::len)
    }

    /// The device address of the first value; null for an empty array.
    pub(crate) fn pointer(&self) -> *mut T {
        let Some(slice) = &self.slice else {
            return std::ptr::null_mut();
        };
        // Event tracking is off, so the guard that comes along has nothing to record.
        let (address, _guard) = slice.device_ptr(slice.stream());
        address as *mut T
    }
}

/// An array of `f32` on a GPU.
#[derive(Debug)]
pub struct Buffer(pub(crate) DeviceArray<f32>);

impl Array for Buffer {
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The error of a driver call.
pub(crate) fn failed(what: impl Into<String>, error: cudarc::driver::DriverError) -> Error {
    driver::call(what, error).into()
}
