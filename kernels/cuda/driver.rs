//! The driver of this machine: whether there is one, how new it is, and its GPUs.
//!
//! cudarc loads the driver at its first use and panics where that fails, so [`load`] comes
//! before any other call.

use std::sync::OnceLock;

use cudarc::driver::{DriverError, result, sys};

use super::error::CudaError;
use super::image::TOOLKIT;
use super::{Driver, Gpu};

/// What every driver since CUDA 11 has and this crate calls; a library without them is a
/// namesake. Other functions are newer than some drivers and are not relied on here.
const NEEDED: [&str; 12] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceTotalMem_v2",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuModuleLoadData",
    "cuLaunchKernel",
    "cuGetErrorName",
    "cuGetErrorString",
];

/// What a driver has that repeats a part of a graph by itself, since CUDA 12.4.
const LOOPS: [&str; 3] = [
    "cuGraphConditionalHandleCreate",
    "cuGraphAddNode_v2",
    "cuStreamBeginCaptureToGraph",
];

/// Loads and initialises the driver once; the version it supports.
///
/// # Errors
///
/// [`CudaError::DriverAbsent`], [`CudaError::DriverBroken`] or what `cuInit` says. A machine
/// with a driver and no GPU is no error.
pub(crate) fn load() -> Result<Driver, CudaError> {
    static LOADED: OnceLock<Result<Driver, CudaError>> = OnceLock::new();
    LOADED.get_or_init(load_once).clone()
}

fn load_once() -> Result<Driver, CudaError> {
    // SAFETY: runs the initialisers of the system's CUDA driver, which are made for that.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::DriverAbsent);
    }
    // SAFETY: the library was just found, so this does not panic.
    let library = unsafe { sys::culib() };
    for symbol in NEEDED {
        // SAFETY: the symbol is looked up and not called.
        if unsafe { library.get::<unsafe extern "C" fn()>(symbol.as_bytes()) }.is_err() {
            return Err(CudaError::DriverBroken { symbol });
        }
    }
    let mut version = 0;
    // SAFETY: writes one int to a place that lives.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|error| call("read the driver's version", error))?;
    match result::init() {
        Ok(()) | Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Ok(Driver {
            version: split_version(version),
        }),
        Err(error) => Err(call("initialise the driver", error)),
    }
}

/// Fails where the embedded kernels are newer than the driver. Machine code runs from the
/// toolkit's major version on, whatever the minor.
pub(crate) fn check_version(driver: Driver) -> Result<(), CudaError> {
    if driver.version.0 < TOOLKIT.0 {
        return Err(CudaError::DriverTooOld {
            found: driver.version,
            needed_major: TOOLKIT.0,
        });
    }
    Ok(())
}

/// Fails where the driver has no loops in graphs.
///
/// # Errors
/// [`CudaError::NoLoops`], or that there is no driver.
pub(crate) fn check_loops() -> Result<(), CudaError> {
    load()?;
    // SAFETY: `load` found the library.
    let library = unsafe { sys::culib() };
    for symbol in LOOPS {
        // SAFETY: the symbol is looked up and not called.
        if unsafe { library.get::<unsafe extern "C" fn()>(symbol.as_bytes()) }.is_err() {
            return Err(CudaError::NoLoops { symbol });
        }
    }
    Ok(())
}

/// The driver and the GPUs it sees.
pub(crate) fn probe() -> (Result<Driver, CudaError>, Vec<Gpu>) {
    let driver = match load() {
        Ok(driver) => driver,
        Err(error) => return (Err(error), Vec::new()),
    };
    match gpus() {
        Ok(gpus) => (check_version(driver).map(|()| driver), gpus),
        Err(error) => (Err(error), Vec::new()),
    }
}

/// The GPUs of a driver that is loaded.
pub(crate) fn gpus() -> Result<Vec<Gpu>, CudaError> {
    let count = match result::device::get_count() {
        // cuInit found no device, and so initialised nothing.
        Err(DriverError(
            sys::CUresult::CUDA_ERROR_NOT_INITIALIZED | sys::CUresult::CUDA_ERROR_NO_DEVICE,
        )) => 0,
        other => other.map_err(|error| call("count the GPUs", error))?,
    };
    (0..count)
        .map(|ordinal| gpu(ordinal).map_err(|error| call(format!("describe GPU {ordinal}"), error)))
        .collect()
}

fn gpu(ordinal: i32) -> Result<Gpu, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = result::device::get(ordinal)?;
    let attribute = |which| {
        // SAFETY: the device handle comes from the driver.
        unsafe { result::device::get_attribute(device, which) }.map(i32::unsigned_abs)
    };
    Ok(Gpu {
        ordinal: ordinal.unsigned_abs() as usize,
        name: result::device::get_name(device)?,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: the device handle comes from the driver.
        memory: unsafe { result::device::total_mem(device) }?,
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
    })
}

/// The error of a driver call.
pub(crate) fn call(what: impl Into<String>, error: DriverError) -> CudaError {
    let text = |found: Result<&std::ffi::CStr, DriverError>| {
        found.map(|text| text.to_string_lossy().into_owned()).ok()
    };
    let name = text(error.error_name()).unwrap_or_else(|| format!("error {}", error.0 as u32));
    let words = text(error.error_string()).unwrap_or_else(|| "unknown to the driver".to_owned());
    let (what, detail) = (what.into(), format!("{words} ({name})"));
    match is_kernel_failure(error) {
        true => CudaError::KernelFailed { what, detail },
        false => CudaError::Call { what, detail },
    }
}

/// Whether the error is what a kernel leaves behind; the driver repeats it at every call.
fn is_kernel_failure(error: DriverError) -> bool {
    use sys::CUresult as Result;
    matches!(
        error.0,
        Result::CUDA_ERROR_ILLEGAL_ADDRESS
            | Result::CUDA_ERROR_LAUNCH_TIMEOUT
            | Result::CUDA_ERROR_ASSERT
            | Result::CUDA_ERROR_HARDWARE_STACK_ERROR
            | Result::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | Result::CUDA_ERROR_MISALIGNED_ADDRESS
            | Result::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | Result::CUDA_ERROR_INVALID_PC
            | Result::CUDA_ERROR_LAUNCH_FAILED
    )
}

/// Whether a call failed for want of memory.
pub(crate) fn is_out_of_memory(error: DriverError) -> bool {
    error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY
}

/// The driver writes 13.2 as 13020.
fn split_version(version: i32) -> (u32, u32) {
    let version = version.unsigned_abs();
    (version / 1000, version % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_thousands_and_tens() {
        assert_eq!(split_version(13000), (13, 0));
        assert_eq!(split_version(12040), (12, 4));
    }

    #[test]
    fn a_driver_of_an_earlier_major_is_too_old_and_the_error_names_both() {
        let version = |major, minor| Driver {
            version: (major, minor),
        };
        assert_eq!(check_version(version(TOOLKIT.0, 0)), Ok(()));
        assert_eq!(check_version(version(TOOLKIT.0 + 1, 0)), Ok(()));
        let error = check_version(version(TOOLKIT.0 - 1, 9)).expect_err("too old");
        let text = error.to_string();
        assert!(
            text.contains(&format!("CUDA {}.9", TOOLKIT.0 - 1)),
            "{text}"
        );
        assert!(text.contains(&format!("need {}.0", TOOLKIT.0)), "{text}");
    }
}
