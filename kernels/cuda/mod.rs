//! NVIDIA GPUs: what is there, and how a kernel gets onto one.
//!
//! Everything goes through the driver API, loaded at run time: the same program starts on a
//! machine without a GPU or a driver, and says so when asked ([`probe`]).
//!
//! The kernels are compiled when the program is built and embedded in it, one image per kernel
//! and architecture ([`EmbeddedKernel`]). [`Device`] picks the best image for a GPU.

#[cfg(feature = "cuda")]
pub(crate) mod abi;
#[cfg(feature = "cuda")]
pub(crate) mod array;
#[cfg(feature = "cuda")]
mod backend;
#[cfg(feature = "cuda")]
pub mod bandwidth;
#[cfg(feature = "cuda")]
mod batch;
#[cfg(feature = "cuda")]
pub mod conformance;
#[cfg(feature = "cuda")]
pub(crate) mod decode;
#[cfg(feature = "cuda")]
pub(crate) mod device;
#[cfg(feature = "cuda")]
mod driver;
mod error;
#[cfg(feature = "cuda")]
pub(crate) mod experts;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod image;
#[cfg(feature = "cuda")]
pub(crate) mod kv;
#[cfg(feature = "cuda")]
pub(crate) mod layout;
#[cfg(feature = "cuda")]
pub(crate) mod matrix;
#[cfg(feature = "cuda")]
mod paths;
#[cfg(feature = "cuda")]
pub(crate) mod pinned;
#[cfg(feature = "cuda")]
mod plan;
#[cfg(feature = "cuda")]
pub(crate) mod queue;
#[cfg(feature = "cuda")]
mod shared;
#[cfg(feature = "cuda")]
mod staging;
#[cfg(feature = "cuda")]
mod timing;

#[cfg(feature = "cuda")]
pub use array::Buffer;
#[cfg(feature = "cuda")]
pub use backend::Cuda;
#[cfg(feature = "cuda")]
pub use decode::CudaDecoder;
#[cfg(feature = "cuda")]
pub use device::Device;
pub use error::CudaError;
#[cfg(feature = "cuda")]
pub use graph::Graph;
#[cfg(feature = "cuda")]
pub use kv::{KvCache, KvType};
#[cfg(feature = "cuda")]
pub use matrix::Matrix;
#[cfg(feature = "cuda")]
pub use paths::{ChosenImage, chosen_images};
#[cfg(feature = "cuda")]
pub use plan::plan;
#[cfg(feature = "cuda")]
pub use shared::{SharedMemory, shared_memory};
#[cfg(feature = "cuda")]
pub use timing::{Moment, StepClock, StepTimes};

/// What CUDA can do here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaReport {
    /// The driver, or why there is none to use.
    pub driver: Result<Driver, CudaError>,
    /// The GPUs that the driver sees, also where it is too old for the kernels.
    pub gpus: Vec<Gpu>,
    /// The kernels in this program.
    pub embedded: Vec<EmbeddedKernel>,
}

/// A CUDA driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    /// The newest CUDA it supports, `(major, minor)`.
    pub version: (u32, u32),
}

/// A GPU as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its number, from 0.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Its compute capability, `(major, minor)`.
    pub compute_capability: (u32, u32),
    /// Its memory in bytes.
    pub memory: usize,
    /// Its streaming multiprocessors.
    pub multiprocessors: u32,
}

/// A kernel in this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedKernel {
    /// Its module: the operation's name.
    pub name: &'static str,
    /// What it was compiled for: `sm_90a` is machine code, `compute_80` is PTX for that GPU and
    /// newer ones.
    pub archs: Vec<String>,
    /// The size of all its images.
    pub bytes: usize,
}

/// A kernel source as it was compiled for one target.
#[cfg(feature = "cuda")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// The stem of its `.cu` file.
    pub module: &'static str,
    /// `sm_90a` is machine code, `compute_80` is PTX.
    pub target: String,
    /// A cubin, or PTX that ends in a zero byte.
    pub bytes: &'static [u8],
}

#[cfg(feature = "cuda")]
impl KernelImage {
    /// Whether it is a cubin.
    pub fn is_machine_code(&self) -> bool {
        self.target.starts_with("sm_")
    }
}

/// Every image in this program.
#[cfg(feature = "cuda")]
pub fn images() -> Vec<KernelImage> {
    image::all()
}

/// Finds out what CUDA can do here. Never fails: what is missing is part of the report.
#[cfg(feature = "cuda")]
pub fn probe() -> CudaReport {
    let (driver, gpus) = driver::probe();
    CudaReport {
        driver,
        gpus,
        embedded: image::embedded(),
    }
}

/// Finds out what CUDA can do here: nothing, in a build without it.
#[cfg(not(feature = "cuda"))]
pub fn probe() -> CudaReport {
    CudaReport {
        driver: Err(CudaError::NotBuilt),
        gpus: Vec::new(),
        embedded: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        assert_eq!(probe().driver, Err(CudaError::NotBuilt));
    }

    /// Where there is a driver this shows that asking it works; where there is none, that its
    /// absence is an answer and no panic.
    #[cfg(feature = "cuda")]
    #[test]
    fn the_report_lists_the_kernels_with_or_without_a_driver() {
        let report = probe();
        assert!(
            report
                .embedded
                .iter()
                .any(|kernel| kernel.name == "rms_norm")
        );
        match report.driver {
            Ok(driver) => assert!(driver.version.0 >= 12),
            Err(CudaError::DriverAbsent) => {
                assert!(report.gpus.is_empty());
                assert_eq!(Device::open(0).err(), Some(CudaError::DriverAbsent));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
