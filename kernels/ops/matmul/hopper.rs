//! `matmul` of many tokens on Hopper (`hopper.cuh`), for the formats whose kernels have shown on the
//! very GPU that they compute the bits of the others.

use super::Matmul;
use super::cuda::plan::PACKED_FOR_HOPPER;
use super::cuda::{plain_output, prefill};
use crate::backend::{Backend, MatrixSource};
use crate::cuda::abi::{
    MATMUL_GROUP_TOKENS, MATMUL_HOPPER_FLOAT_GROUPS, MATMUL_HOPPER_GROUPS,
    MATMUL_HOPPER_SHARED_BYTES, MATMUL_HOPPER_THREADS, MATMUL_HOPPER_TILES, MATMUL_THREADS,
    MatmulInput, MatmulOutput, MatmulPackParams, MatmulPrefillParams,
};
use crate::cuda::layout::{Tiling, tiling};
use crate::cuda::matrix::Part;
use crate::cuda::queue::{Launch, Queue};
use crate::cuda::{self, Cuda};
use crate::error::Result;
use crate::quant::{self, Format};

/// The compute capability whose instructions the kernels use; no other GPU has them.
pub(crate) const CAPABILITY: (u32, u32) = (9, 0);

/// Tokens from which a block's columns are well used.
pub(super) const LEAST_TOKENS: u32 = 48;

/// Puts the product of a part on the stream.
///
/// # Errors
/// No memory for the packed activations, or what the driver says.
///
/// # Safety
/// As [`launch_product`](super::cuda::launch_product); the GPU is a Hopper.
pub(super) unsafe fn launch(
    cuda: &Cuda,
    queue: &mut Queue,
    part: &Part,
    tiling: &Tiling,
    input: MatmulInput,
    output: MatmulOutput,
) -> Result<()> {
    let n_tokens = input.n_tokens;
    let (weight, _) = part.weight(tiling);
    let packed = prefill::room(cuda, queue, PACKED_FOR_HOPPER, n_tokens, part.n_steps)?;
    let pack = Launch {
        module: "matmul_pack",
        kernel: match tiling.bf16 {
            true => "matmul_pack_cores_bf16",
            false => "matmul_pack_cores_f16",
        },
        grid: (packed.n_groups * MATMUL_GROUP_TOKENS, 1, 1),
        threads: MATMUL_THREADS,
        shared_bytes: 0,
        params: MatmulPackParams { input, packed },
    };
    let block_groups = match tiling.record_bytes {
        0 => MATMUL_HOPPER_FLOAT_GROUPS,
        _ => MATMUL_HOPPER_GROUPS,
    };
    let product = Launch {
        module: tiling.hopper_module,
        kernel: tiling.hopper,
        grid: (
            packed.n_groups.div_ceil(block_groups),
            weight.n_tiles.div_ceil(MATMUL_HOPPER_TILES),
            1,
        ),
        threads: MATMUL_HOPPER_THREADS,
        shared_bytes: MATMUL_HOPPER_SHARED_BYTES,
        params: MatmulPrefillParams {
            weight,
            packed,
            output,
            n_tokens,
        },
    };
    // SAFETY: by the contract above; the packed activations have the size that both expect.
    unsafe {
        queue.launch(&cuda.device, &pack)?;
        queue.launch(&cuda.device, &product)
    }
}

/// The formats whose Hopper kernels may be used on this GPU: on one that is no Hopper, none; on
/// one that is, those that give the very bits of the kernels for a few tokens. What fails is left
/// out: the other kernels do the same work.
pub(crate) fn agreeing_formats(cuda: &Cuda) -> Vec<Format> {
    if cuda.device.gpu().compute_capability != CAPABILITY {
        return Vec::new();
    }
    let agrees = |format: &Format| {
        let embedded = |tiling: &Tiling| is_embedded(tiling.hopper_module);
        let Some(tiling) = tiling(*format).filter(embedded) else {
            return false;
        };
        told(&format!("{format}"), &bits_agree(cuda, *format, &tiling))
    };
    Format::ALL.into_iter().filter(agrees).collect()
}

/// Whether the program has been built with a module.
pub(crate) fn is_embedded(module: &str) -> bool {
    cuda::images().iter().any(|image| image.module == module)
}

/// Whether a kernel has agreed with the others; says so where it has not.
pub(crate) fn told(what: &str, agreed: &Result<bool>) -> bool {
    match agreed {
        Ok(true) => {}
        Ok(false) => tracing::warn!("the Hopper kernel for {what} computes other bits"),
        Err(error) => tracing::warn!("the Hopper kernel for {what} fails: {error}"),
    }
    matches!(agreed, Ok(true))
}

/// Whether both kernels give the same bits for noise: two tiles more than a block has, columns in
/// several slices, tokens that do not fill the last group.
fn bits_agree(cuda: &Cuda, format: Format, tiling: &Tiling) -> Result<bool> {
    const ROWS: usize = 150;
    const COLS: usize = 768;
    const TOKENS: usize = 93;
    let values = noise(ROWS * COLS);
    let bytes = quant::quantise(format, &values)?;
    let matrix = cuda.matrix(&[MatrixSource {
        name: "a self-check",
        format,
        rows: ROWS,
        cols: COLS,
        data: &bytes,
    }])?;
    let x = cuda.upload(&noise(TOKENS * COLS))?;
    let mut outputs = [cuda.buffer(TOKENS * ROWS)?, cuda.buffer(TOKENS * ROWS)?];
    // No format has agreed yet, so these are the kernels for a few tokens.
    cuda.matmul(Matmul::new(&x, &matrix, TOKENS, &mut outputs[0]))?;
    let input = MatmulInput {
        x: x.0.pointer(),
        rows: std::ptr::null(),
        norm_weight: std::ptr::null(),
        epsilon: 0.0,
        n_tokens: TOKENS as u32,
        cols: COLS as u32,
    };
    let mut queue = cuda.queue();
    for part in matrix.parts() {
        let output = plain_output(outputs[1].0.pointer(), ROWS as u32);
        // SAFETY: the arrays have these shapes and live until the outputs are read.
        unsafe { launch(cuda, &mut queue, part, tiling, input, output) }?;
    }
    drop(queue);
    let mut read = [vec![0.0; TOKENS * ROWS], vec![0.0; TOKENS * ROWS]];
    for (values, output) in read.iter_mut().zip(&outputs) {
        cuda.download(output, 0..TOKENS * ROWS, values)?;
    }
    let [few, many] = read.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>());
    Ok(few == many)
}

/// Numbers between −1 and 1 without a pattern.
pub(crate) fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
