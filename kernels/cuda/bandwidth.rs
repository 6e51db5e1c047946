//! Memory's own speed: the kernels of `device/bandwidth`, which do nothing but move it.

use cudarc::driver::DeviceRepr;

use super::Cuda;
use super::abi::{BANDWIDTH_THREADS, BandwidthParams};
use super::array::DeviceArray;
use super::queue::Launch;
use crate::error::{Error, Result};

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for BandwidthParams {}

/// Words of a pack, which a thread moves at a time.
const PACK: usize = 4;
/// Blocks for each multiprocessor: as many as fit on it.
const BLOCKS: u32 = 8;
const WARP: usize = 32;

/// What is done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// Every byte is read, and written elsewhere.
    Copy,
    /// Every byte is read.
    Read,
}

/// Memory that a kernel moves.
#[derive(Debug)]
pub struct Bandwidth {
    motion: Motion,
    source: DeviceArray<u32>,
    out: DeviceArray<u32>,
    n_blocks: u32,
}

impl Bandwidth {
    /// `words` on the device, a multiple of 4 of them and less than 2^34, and room for the result,
    /// which is poisoned.
    ///
    /// # Errors
    /// Another number of words, or too little memory.
    pub fn new(cuda: &Cuda, motion: Motion, words: &[u32]) -> Result<Self> {
        if !words.len().is_multiple_of(PACK) || words.len() / PACK > u32::MAX as usize {
            return Err(Error::Parameter(format!(
                "bandwidth: {} words are not packs of {PACK}",
                words.len()
            )));
        }
        let device = &cuda.device;
        let n_blocks = device.gpu().multiprocessors * BLOCKS;
        let n_out = match motion {
            Motion::Copy => words.len(),
            Motion::Read => n_blocks as usize * BANDWIDTH_THREADS as usize / WARP,
        };
        Ok(Self {
            motion,
            source: DeviceArray::upload(device, "words to move", words)?,
            out: DeviceArray::upload(device, "words moved", &vec![0xdead_beef; n_out])?,
            n_blocks,
        })
    }

    /// Bytes that a launch moves.
    pub fn bytes(&self) -> usize {
        let read = self.source.len() * size_of::<u32>();
        match self.motion {
            Motion::Copy => 2 * read,
            Motion::Read => read,
        }
    }

    /// Moves all of it once.
    ///
    /// # Errors
    /// No image for this GPU, or what the driver says.
    pub fn launch(&mut self, cuda: &Cuda) -> Result<()> {
        let launch = Launch {
            module: "bandwidth",
            kernel: match self.motion {
                Motion::Copy => "bandwidth_copy",
                Motion::Read => "bandwidth_read",
            },
            grid: (self.n_blocks, 1, 1),
            threads: BANDWIDTH_THREADS,
            shared_bytes: 0,
            params: BandwidthParams {
                source: self.source.pointer(),
                out: self.out.pointer(),
                n_packs: (self.source.len() / PACK) as u32,
            },
        };
        // SAFETY: threads and lengths are what the kernel takes; arrays are freed in stream order.
        unsafe { cuda.queue().launch(&cuda.device, &launch) }
    }

    /// The words as copied, or the exclusive or of those that were read.
    ///
    /// # Errors
    /// What the driver says, also of the launches before.
    pub fn result(&self, cuda: &Cuda) -> Result<Vec<u32>> {
        let mut words = vec![0; self.out.len()];
        self.out.read(&cuda.device, 0, &mut words)?;
        Ok(match self.motion {
            Motion::Copy => words,
            Motion::Read => vec![words.iter().fold(0, |all, word| all ^ word)],
        })
    }
}
