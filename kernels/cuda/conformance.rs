//! Runs single instructions on a GPU, for tests that compare with what the PTX ISA says: the
//! kernels of `device/conformance`, one for each wrapper of `device/ptx.cuh` and
//! `device/ptx_hopper.cuh`.

use cudarc::driver::DeviceRepr;

use super::abi::ConformanceParams;
use super::array::DeviceArray;
use super::queue::Launch;
use super::{Cuda, images};
use crate::error::{Error, Result};
use crate::ops::matmul::hopper::CAPABILITY;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for ConformanceParams {}

/// A kernel that applies an instruction to given words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The source in `device/conformance` that it stands in, which says what the words mean.
    module: &'static str,
    /// Its name.
    pub kernel: &'static str,
    /// Threads of its one block.
    threads: u32,
    /// How many words it reads: of a, b and c.
    inputs: [usize; 3],
    /// How many words it writes.
    output: usize,
}

const fn trial(kernel: &'static str, threads: u32, inputs: [usize; 3], output: usize) -> Trial {
    Trial {
        module: "conformance",
        kernel,
        threads,
        inputs,
        output,
    }
}

/// A trial that a warpgroup or more take part in, of Hopper's instructions.
const fn hopper(kernel: &'static str, threads: u32, inputs: [usize; 3], output: usize) -> Trial {
    Trial {
        module: "conformance_hopper",
        ..trial(kernel, threads, inputs, output)
    }
}

/// A trial that multiplies 64 rows by `columns` columns twice.
const fn product(kernel: &'static str, columns: usize) -> Trial {
    let accumulators = 64 * columns;
    let inputs = [64 * 8, columns * 8, accumulators];
    hopper(kernel, 128, inputs, 2 * accumulators)
}

impl Trial {
    /// Whether the GPU has the instruction, and the program a kernel with it.
    pub fn is_for(&self, cuda: &Cuda) -> bool {
        let is_embedded = || images().iter().any(|image| image.module == self.module);
        let is_hopper = cuda.device.gpu().compute_capability == CAPABILITY;
        self.module == "conformance" || is_hopper && is_embedded()
    }
}

/// All of them.
pub const TRIALS: [Trial; 31] = [
    trial("conformance_mma_bf16", 32, [128, 64, 128], 128),
    trial("conformance_mma_f16", 32, [128, 64, 128], 128),
    trial("conformance_ldmatrix_x4", 32, [128, 32, 0], 128),
    trial("conformance_ldmatrix_x4_trans", 32, [128, 32, 0], 128),
    trial("conformance_ldmatrix_x2", 32, [128, 32, 0], 64),
    trial("conformance_cp_async_16", 128, [512, 128, 0], 512),
    trial("conformance_cp_async_4", 128, [128, 128, 0], 128),
    trial("conformance_cp_async_groups", 128, [384, 0, 0], 384),
    trial("conformance_named_barrier", 128, [128, 0, 0], 128),
    trial("conformance_opaque", 32, [32, 0, 0], 32),
    trial("conformance_f16x2", 128, [128, 128, 128], 256),
    trial("conformance_pack_words_4", 32, [128, 0, 0], 128),
    trial("conformance_pack_words_2", 32, [64, 0, 0], 64),
    trial("conformance_pack_halves_8", 32, [128, 0, 0], 128),
    trial("conformance_streaming", 32, [128, 0, 0], 160),
    trial("conformance_philox", 32, [128, 64, 0], 192),
    trial("conformance_weight", 128, [128, 0, 0], 640),
    trial("conformance_share", 128, [128, 512, 0], 512),
    trial("conformance_sums", 128, [128, 256, 0], 768),
    hopper("conformance_copy_bulk", 128, [512, 0, 0], 512),
    hopper("conformance_move_registers", 384, [384, 0, 0], 384),
    product("conformance_warpgroup_bf16_n32", 32),
    product("conformance_warpgroup_bf16_n64", 64),
    product("conformance_warpgroup_f16_n64", 64),
    product("conformance_warpgroup_bf16_n128", 128),
    product("conformance_warpgroup_f16_n128", 128),
    product("conformance_warpgroup_bf16_columns_n64", 64),
    product("conformance_warpgroup_bf16_columns_n96", 96),
    product("conformance_warpgroup_bf16_columns_n128", 128),
    product("conformance_warpgroup_shared_128", 32),
    product("conformance_warpgroup_shared_64", 32),
];

/// The words that a kernel makes of `inputs`.
///
/// # Errors
/// A kernel that is not one of [`TRIALS`], inputs of another length than it takes, no image for
/// this GPU, or what the driver says.
pub fn run(cuda: &Cuda, kernel: &str, inputs: [&[u32]; 3]) -> Result<Vec<u32>> {
    let wrong = |detail| Error::Shape {
        op: "conformance",
        detail,
    };
    let trial = TRIALS
        .iter()
        .find(|trial| trial.kernel == kernel)
        .ok_or_else(|| wrong(format!("there is no kernel {kernel}")))?;
    let lengths = inputs.map(<[u32]>::len);
    if lengths != trial.inputs {
        let takes = trial.inputs;
        return Err(wrong(format!(
            "{kernel} takes {takes:?} words, not {lengths:?}"
        )));
    }
    let device = &cuda.device;
    let upload = |words| DeviceArray::upload(device, "words of a trial", words);
    let [a, b, c] = inputs;
    let (a, b, c) = (upload(a)?, upload(b)?, upload(c)?);
    let out = DeviceArray::<u32>::zeroed(device, "words of a trial", trial.output)?;
    let launch = Launch {
        module: trial.module,
        kernel: trial.kernel,
        grid: (1, 1, 1),
        threads: trial.threads,
        shared_bytes: 0,
        params: ConformanceParams {
            a: a.pointer(),
            b: b.pointer(),
            c: c.pointer(),
            out: out.pointer(),
        },
    };
    // SAFETY: threads and lengths are what the kernel takes, and the arrays live until the result
    // has been read.
    unsafe { cuda.queue().launch(device, &launch) }?;
    let mut words = vec![0; trial.output];
    out.read(device, 0, &mut words)?;
    Ok(words)
}
