//! What can go wrong between this program and a GPU.

/// Why CUDA cannot be used, or what a call of it said; one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The program was compiled with `--no-default-features`.
    #[error("this build has no CUDA: it was built without the cuda feature")]
    NotBuilt,
    /// There is no driver library on this machine.
    #[error("no CUDA driver is installed: the library libcuda was not found")]
    DriverAbsent,
    /// A library of the driver's name that is not the driver.
    #[error("the library libcuda that was found is no CUDA driver: it has no {symbol}")]
    DriverBroken {
        /// The first function that is missing.
        symbol: &'static str,
    },
    /// The kernels were compiled by a toolkit that this driver does not know yet.
    #[error(
        "the CUDA driver is too old: it supports CUDA {}.{}, and the kernels need {}.0",
        found.0, found.1, needed_major
    )]
    DriverTooOld {
        /// What the driver supports, `(major, minor)`.
        found: (u32, u32),
        /// The toolkit's major version.
        needed_major: u32,
    },
    /// The driver cannot repeat a part of a graph by itself.
    #[error("the CUDA driver has no loops in graphs: {symbol} is missing")]
    NoLoops {
        /// The first function that is missing.
        symbol: &'static str,
    },
    /// There is no GPU of this number.
    #[error("there is no GPU {ordinal}: the CUDA driver sees {count}")]
    NoGpu {
        /// The number asked for, counted from 0.
        ordinal: usize,
        /// GPUs that the driver sees.
        count: usize,
    },
    /// No image of a kernel runs on this GPU.
    #[error(
        "the kernel {kernel} was not compiled for {gpu} (compute capability {}.{}); embedded are {archs}",
        capability.0, capability.1
    )]
    NoImage {
        /// The kernel's module.
        kernel: &'static str,
        /// The GPU's name.
        gpu: String,
        /// Its compute capability, `(major, minor)`.
        capability: (u32, u32),
        /// The architectures that are embedded.
        archs: String,
    },
    /// A kernel ended in a fault, after which nothing works on the device until this program has
    /// let go of it, if then.
    #[error("a kernel failed on the GPU, so CUDA could not {what}: {detail}")]
    KernelFailed {
        /// What was tried next; the launch itself where the driver knew at once.
        what: String,
        /// The driver's name and words for the failure.
        detail: String,
    },
    /// A call of the driver failed.
    #[error("CUDA could not {what}: {detail}")]
    Call {
        /// What was tried.
        what: String,
        /// The driver's name and words for the failure.
        detail: String,
    },
}

impl From<CudaError> for crate::error::Error {
    fn from(error: CudaError) -> Self {
        Self::Device {
            device: "cuda".to_owned(),
            detail: error.to_string(),
        }
    }
}
