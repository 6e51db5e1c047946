//! Which of the ways through this program an opened GPU goes.

use cudarc::driver::sys;

use super::array::{DeviceArray, failed};
use super::graph::Graph;
use super::{Cuda, CudaError, image};
use crate::error::Result;
use crate::ops::matmul::hopper;

/// The image of a module that a GPU runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenImage {
    /// The module.
    pub module: &'static str,
    /// What the image was compiled for, as in [`EmbeddedKernel`](super::EmbeddedKernel); none
    /// where no image of the module runs there.
    pub target: Option<String>,
}

/// The image of each module that a GPU of this compute capability, `(major, minor)`, runs. Needs
/// no GPU.
pub fn chosen_images(capability: (u32, u32)) -> Vec<ChosenImage> {
    let choose = |module: &'static image::Module| ChosenImage {
        module: module.name,
        target: image::select(module.images, capability).map(image::Image::to_string),
    };
    image::MODULES.iter().map(choose).collect()
}

impl Cuda {
    /// Records a step of no consequence and runs it twice: whether the GPU and its driver repeat
    /// what was recorded.
    ///
    /// # Errors
    /// What the driver says, or that the step was not repeated.
    pub fn check_graphs(&self) -> Result<()> {
        const MARK: u32 = 0x5eed_1e55;
        let device = &self.device;
        let mut word = DeviceArray::<u32>::zeroed(device, "a word", 1)?;
        let stream = device.stream().cu_stream();
        let address = word.pointer() as sys::CUdeviceptr;
        let fill = || {
            // SAFETY: the word lives until the stream has been waited for.
            unsafe { sys::cuMemsetD32Async(address, MARK, 1, stream) }
                .result()
                .map_err(|error| failed("fill a word", error))
        };
        device.bind()?;
        let mut graph = Graph::record(device, fill)?;
        for _ in 0..2 {
            word.write(device, &[0])?;
            graph.launch()?;
            let mut found = [0];
            word.read(device, 0, &mut found)?;
            if found != [MARK] {
                let (what, detail) = ("repeat a recorded step", "it had no effect");
                return Err(CudaError::Call {
                    what: what.to_owned(),
                    detail: detail.to_owned(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Whether [`try_hopper`](Self::try_hopper) has something to try.
    ///
    /// # Errors
    /// Why it has not, as a clause.
    pub fn can_try_hopper(&self) -> std::result::Result<(), &'static str> {
        if self.device.gpu().compute_capability != hopper::CAPABILITY {
            return Err("the GPU is no Hopper");
        }
        let is_hopper = |image: &ChosenImage| image.module.contains("hopper");
        let images = chosen_images(hopper::CAPABILITY);
        match images
            .iter()
            .any(|image| is_hopper(image) && image.target.is_some())
        {
            true => Ok(()),
            false => Err("this build has no kernels for it"),
        }
    }
}
