//! An opened GPU: its context, the stream all work goes on, and its kernels' images.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
use cudarc::nvrtc::Ptx;

use super::Gpu;
use super::driver::{self, call};
use super::error::CudaError;
use super::image::{self, Image};

/// A GPU that is ready to run kernels.
#[derive(Debug)]
pub struct Device {
    gpu: Gpu,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

impl Device {
    /// Opens GPU `ordinal`, counted from 0.
    ///
    /// # Errors
    ///
    /// No driver, a driver older than the kernels, no such GPU, or what the driver says.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        driver::check_version(driver::load()?)?;
        let gpus = driver::gpus()?;
        let count = gpus.len();
        let gpu = gpus
            .into_iter()
            .nth(ordinal)
            .ok_or(CudaError::NoGpu { ordinal, count })?;
        let context = CudaContext::new(ordinal)
            .map_err(|error| call(format!("open GPU {ordinal}"), error))?;
        // SAFETY: all work of this device goes on its one stream, which keeps it in order.
        // Events recorded behind the program's back would break the capture of a graph, so
        // this comes before the first allocation.
        unsafe { context.disable_event_tracking() };
        // The default stream cannot be captured.
        let stream = context
            .new_stream()
            .map_err(|error| call(format!("make a stream on GPU {ordinal}"), error))?;
        Ok(Self {
            gpu,
            context,
            stream,
        })
    }

    /// What the driver says of the GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The stream of this device's work.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Loads the kernel `name` of the module of that name.
    ///
    /// # Errors
    ///
    /// [`CudaError::NoImage`] where none of its images runs here, or what the driver says.
    pub(crate) fn kernel(&self, name: &'static str) -> Result<CudaFunction, CudaError> {
        let images = image::module(name).map_or(&[][..], |module| module.images);
        let chosen = image::select(images, self.gpu.compute_capability).ok_or_else(|| {
            let archs: Vec<String> = images.iter().map(Image::to_string).collect();
            CudaError::NoImage {
                kernel: name,
                gpu: self.gpu.name.clone(),
                capability: self.gpu.compute_capability,
                archs: archs.join(", "),
            }
        })?;
        self.context
            .load_module(Ptx::from_binary(chosen.bytes.to_vec()))
            .and_then(|module| module.load_function(name))
            .map_err(|error| call(format!("load the kernel {name} ({chosen})"), error))
    }
}
