//! An opened GPU: its context, the stream all work goes on, and its kernels' images.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError, sys};
use cudarc::nvrtc::Ptx;

use super::Gpu;
use super::driver::{self, call};
use super::error::CudaError;
use super::image::{self, Image};
use crate::error::Error;

/// A GPU that is ready to run kernels.
#[derive(Debug)]
pub struct Device {
    gpu: Gpu,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
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
            modules: Mutex::default(),
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

    /// Waits for all work on the stream.
    ///
    /// # Errors
    ///
    /// What the driver says of that work.
    pub fn synchronise(&self) -> Result<(), Error> {
        self.stream
            .synchronize()
            .map_err(|error| call("finish its work", error).into())
    }

    /// Whether all work on the stream is done; waits for nothing.
    ///
    /// # Errors
    ///
    /// What the driver says of that work.
    pub(crate) fn is_idle(&self) -> Result<bool, Error> {
        self.bind()?;
        // SAFETY: the stream lives as long as `self`.
        match unsafe { sys::cuStreamQuery(self.stream.cu_stream()) } {
            sys::CUresult::CUDA_SUCCESS => Ok(true),
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            error => Err(call("finish its work", DriverError(error)).into()),
        }
    }

    /// Makes the device the calling thread's, as calls that go around cudarc need it.
    ///
    /// # Errors
    ///
    /// What the driver says.
    pub(crate) fn bind(&self) -> Result<(), Error> {
        (self.context.bind_to_thread()).map_err(|error| call("use the GPU", error).into())
    }

    /// Loads the kernel `name` of `module`.
    ///
    /// # Errors
    ///
    /// [`CudaError::NoImage`] where none of its images runs here, or what the driver says.
    pub(crate) fn kernel(
        &self,
        module: &'static str,
        name: &'static str,
    ) -> Result<CudaFunction, CudaError> {
        self.module(module)?
            .load_function(name)
            .map_err(|error| call(format!("load the kernel {name} of {module}"), error))
    }

    /// The module of this name, loaded at its first use.
    fn module(&self, name: &'static str) -> Result<Arc<CudaModule>, CudaError> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(name) {
            return Ok(module.clone());
        }
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
        let module = self
            .context
            .load_module(Ptx::from_binary(chosen.bytes.to_vec()))
            .map_err(|error| call(format!("load the kernels of {name} ({chosen})"), error))?;
        modules.insert(name, module.clone());
        Ok(module)
    }
}
