//! `matmul` on a GPU: a launch a part of the stack; by [`product`] also the logits.
//!
//! Which launch computes a token never changes its bits: the order of its sums is the part's.

pub(crate) mod plan;
pub(crate) mod prefill;

use cudarc::driver::DeviceRepr;

use super::{Matmul, OP, hopper};
use crate::backend::Dimensions;
use crate::cuda::abi::{
    MATMUL_DECODE_DEPTH, MATMUL_GROUP_TOKENS, MATMUL_STEP_COLS, MATMUL_THREADS, MATMUL_TILE_ROWS,
    MATMUL_WARPS, MatmulDecodeParams, MatmulF32Params, MatmulGateParams, MatmulInput, MatmulOutput,
    RmsNormParams,
};
use crate::cuda::layout::{Tiling, tiling};
use crate::cuda::matrix::{Matrix, Part};
use crate::cuda::queue::{Launch, Queue};
use crate::cuda::{Buffer, Cuda};
use crate::error::Result;
use crate::ops::{gated, narrow, rms_norm};

// SAFETY: plain data, their layouts checked against the kernels' compiler when they were
// generated.
unsafe impl DeviceRepr for MatmulDecodeParams {}
// SAFETY: likewise.
unsafe impl DeviceRepr for MatmulF32Params {}
// SAFETY: likewise.
unsafe impl DeviceRepr for MatmulGateParams {}

/// Shared memory for the activations of a decode kernel's block: what leaves room for two blocks
/// on the GPUs that have most, and for one on all.
const STAGE_BYTES: u32 = 72 << 10;

/// The product of rows of `x` with a matrix, and what is done to it.
pub(crate) struct Product<'a> {
    pub(crate) input: MatmulInput,
    pub(crate) weight: &'a Matrix,
    /// Of the whole output; each part writes its own columns.
    pub(crate) output: MatmulOutput,
}

/// The output `out` of rows of `width` values, where nothing is done to a product.
pub(crate) fn plain_output(out: *mut f32, width: u32) -> MatmulOutput {
    MatmulOutput {
        out,
        bias: std::ptr::null(),
        width,
        first: 0,
        scale: 1.0,
        soft_cap: 0.0,
        accumulate: 0,
        n_gate_tiles: 0,
        activation: 0,
    }
}

/// Computes a checked [`Matmul`].
pub(crate) fn run(cuda: &Cuda, op: Matmul<'_, Cuda>) -> Result<()> {
    let (n_tokens, width) = (narrow(OP, op.n_rows)?, narrow(OP, op.weight.rows())?);
    if n_tokens == 0 {
        return Ok(());
    }
    let mut queue = cuda.queue();
    let null = std::ptr::null::<f32>();
    let pointer = |buffer: &Buffer| buffer.0.pointer().cast_const();
    let mut product = Product {
        input: MatmulInput {
            x: op.x.0.pointer(),
            rows: std::ptr::null(),
            norm_weight: op.norm.as_ref().map_or(null, |norm| pointer(norm.weight)),
            epsilon: op.norm.as_ref().map_or(0.0, |norm| norm.epsilon),
            n_tokens,
            cols: narrow(OP, op.weight.cols())?,
        },
        weight: op.weight,
        output: MatmulOutput {
            bias: op.bias.map_or(null, pointer),
            soft_cap: op.soft_cap.unwrap_or(0.0),
            accumulate: op.accumulate.into(),
            ..plain_output(op.out.0.pointer(), width)
        },
    };
    if let Some(activation) = op.gate {
        let gate = MatmulOutput {
            width: width / 2,
            activation: gated::cuda::code(activation),
            ..product.output
        };
        let Some(n_gate_tiles) = gate_tiles(op.weight) else {
            // SAFETY: the arrays are as long as the check found them, and `out` is borrowed alone.
            return unsafe { gate_apart(cuda, &mut queue, product, &gate) };
        };
        product.output = MatmulOutput {
            n_gate_tiles,
            ..gate
        };
    }
    // SAFETY: as above.
    unsafe { launch_product(cuda, &mut queue, &product) }
}

/// The tiles of gates, where each has one of values beside it in the launch: of a matrix in one
/// part, tiles that begin with the first value.
fn gate_tiles(weight: &Matrix) -> Option<u32> {
    let [part] = weight.parts() else {
        return None;
    };
    let in_tiles =
        tiling(part.format).is_some() && part.n_rows.is_multiple_of(2 * MATMUL_TILE_ROWS);
    in_tiles.then_some(part.n_rows / (2 * MATMUL_TILE_ROWS))
}

/// The product into scratch memory, then `gate` in a launch of its own.
///
/// # Safety
/// As [`launch_product`].
unsafe fn gate_apart(
    cuda: &Cuda,
    queue: &mut Queue,
    mut product: Product<'_>,
    gate: &MatmulOutput,
) -> Result<()> {
    let (n_tokens, width) = (product.input.n_tokens, gate.width);
    let products = gate_scratch(cuda, queue, n_tokens as usize, product.weight.rows())?;
    product.output.out = products;
    product.output.accumulate = 0;
    let launch = Launch {
        module: "matmul_gate",
        kernel: "matmul_gate",
        grid: (n_tokens, width.div_ceil(MATMUL_THREADS), 1),
        threads: MATMUL_THREADS,
        shared_bytes: 0,
        params: MatmulGateParams {
            products,
            out: gate.out,
            width,
            activation: gate.activation,
            accumulate: gate.accumulate,
        },
    };
    // SAFETY: the products are in scratch memory of that size, the rest by the contract above.
    unsafe {
        launch_product(cuda, queue, &product)?;
        queue.launch(&cuda.device, &launch)
    }
}

/// Room for products that a gate turns into half as many outputs.
fn gate_scratch(cuda: &Cuda, queue: &mut Queue, n_tokens: usize, rows: usize) -> Result<*mut f32> {
    let bytes = n_tokens
        .saturating_mul(rows)
        .saturating_mul(size_of::<f32>());
    let scratch = queue.scratch(&cuda.device, plan::GATED, bytes)?;
    Ok(scratch.cast())
}

/// Launches the kernels of all parts.
///
/// # Safety
/// The pointers are to arrays of the shapes that `abi.h` states, `out` overlaps no input, and all
/// of it lives until the stream has come past the launches.
pub(crate) unsafe fn launch_product(
    cuda: &Cuda,
    queue: &mut Queue,
    product: &Product<'_>,
) -> Result<()> {
    let mut packed = prefill::Activations::new(&product.input, prefill::Order::Groups);
    for part in product.weight.parts() {
        let mut output = product.output;
        output.first = part.first_row;
        if !output.bias.is_null() {
            output.bias = output.bias.wrapping_add(part.first_row as usize);
        }
        // SAFETY: by the contract above; a part's rows are among the whole's.
        unsafe {
            match tiling(part.format) {
                Some(tiling) if is_for_hopper(cuda, part, &product.input) => {
                    hopper::launch(cuda, queue, part, &tiling, product.input, output)
                }
                None => f32_product(cuda, queue, part, product.input, output),
                Some(tiling) if product.input.n_tokens <= MATMUL_GROUP_TOKENS => {
                    decode(cuda, queue, part, &tiling, product.input, output)
                }
                Some(tiling) => {
                    let packed = packed.get(cuda, queue, tiling.bf16)?;
                    prefill::launch(cuda, queue, part, &tiling, packed, output)
                }
            }
        }?;
    }
    Ok(())
}

/// Whether there are many tokens and a kernel of Hopper's for them.
fn is_for_hopper(cuda: &Cuda, part: &Part, input: &MatmulInput) -> bool {
    input.n_tokens >= hopper::LEAST_TOKENS && cuda.hopper_formats().contains(&part.format)
}

/// Up to eight tokens.
unsafe fn decode(
    cuda: &Cuda,
    queue: &mut Queue,
    part: &Part,
    tiling: &Tiling,
    input: MatmulInput,
    output: MatmulOutput,
) -> Result<()> {
    let (weight, longest_slice) = part.weight(tiling);
    let group_tiles = MATMUL_WARPS >> weight.slice_bits;
    let pass_steps = pass_steps(input.n_tokens, 1 << weight.slice_bits, longest_slice);
    let n_blocks = match output.n_gate_tiles {
        // The next tile of a block is that of the values.
        gates @ 1.. if group_tiles == 1 => gates,
        _ => {
            let n_groups = weight.n_tiles.div_ceil(group_tiles);
            let multiprocessors = cuda.device.gpu().multiprocessors;
            n_blocks(n_groups, input.n_tokens, multiprocessors)
        }
    };
    let launch = Launch {
        module: tiling.module,
        kernel: tiling.decode,
        grid: (n_blocks, 1, 1),
        threads: MATMUL_THREADS,
        shared_bytes: stage_bytes(input.n_tokens, pass_steps << weight.slice_bits),
        params: MatmulDecodeParams {
            weight,
            input,
            output,
            longest_slice,
            pass_steps,
        },
    };
    // SAFETY: by the caller's contract; the launch is as `decode.cuh` asks for.
    unsafe { queue.launch(&cuda.device, &launch) }
}

/// Shared memory of a decode block for `n_places` steps of each token, as `decode.cuh` lays it out.
pub(crate) fn stage_bytes(n_tokens: u32, n_places: u32) -> u32 {
    const SHARE: u32 = 16;
    let blocks = n_places * MATMUL_STEP_COLS / 32;
    n_tokens * (SHARE * (4 * blocks + 4) + 4 * (blocks + 4))
}

/// Steps of each slice whose activations are in shared memory at a time: all, or as many rounds of
/// the ring as fit.
pub(crate) fn pass_steps(n_tokens: u32, n_slices: u32, longest_slice: u32) -> u32 {
    let fits = |steps: u32| stage_bytes(n_tokens, n_slices * steps) <= STAGE_BYTES;
    if fits(longest_slice) {
        return longest_slice;
    }
    let mut steps = MATMUL_DECODE_DEPTH;
    while fits(steps + MATMUL_DECODE_DEPTH) {
        steps += MATMUL_DECODE_DEPTH;
    }
    steps
}

/// Blocks for `n_groups` groups of tiles: one each, or where packing many tokens costs more than
/// a group's weights a quarter as many, but enough to fill the GPU.
pub(crate) fn n_blocks(n_groups: u32, n_tokens: u32, multiprocessors: u32) -> u32 {
    let groups_a_block = n_tokens.div_ceil(2);
    n_groups
        .div_ceil(groups_a_block)
        .max(n_groups.min(2 * multiprocessors))
}

/// F32 weights.
unsafe fn f32_product(
    cuda: &Cuda,
    queue: &mut Queue,
    part: &Part,
    mut input: MatmulInput,
    output: MatmulOutput,
) -> Result<()> {
    if !input.norm_weight.is_null() {
        // SAFETY: by the caller's contract.
        unsafe { normalise(cuda, queue, &mut input) }?;
    }
    let launch = Launch {
        module: "matmul_f32",
        kernel: "matmul_f32",
        grid: (
            part.n_rows.div_ceil(MATMUL_WARPS),
            input.n_tokens.div_ceil(MATMUL_GROUP_TOKENS),
            1,
        ),
        threads: MATMUL_THREADS,
        shared_bytes: 0,
        params: MatmulF32Params {
            weights: part.quants().cast(),
            input,
            output,
            n_rows: part.n_rows,
        },
    };
    // SAFETY: by the caller's contract.
    unsafe { queue.launch(&cuda.device, &launch) }
}

/// Replaces the input by its norm, in scratch memory.
unsafe fn normalise(cuda: &Cuda, queue: &mut Queue, input: &mut MatmulInput) -> Result<()> {
    let len = input.n_tokens as usize * input.cols as usize;
    let bytes = len * size_of::<f32>();
    let normalised = queue.scratch(&cuda.device, plan::NORMALISED, bytes)?;
    let params = RmsNormParams {
        x: input.x,
        weight: input.norm_weight,
        out: normalised.cast(),
        width: input.cols,
        epsilon: input.epsilon,
        accumulate: 0,
    };
    // SAFETY: by the caller's contract; the scratch memory is as large as the input.
    unsafe {
        queue.launch(
            &cuda.device,
            &rms_norm::cuda::launch(input.n_tokens, params),
        )
    }?;
    input.x = normalised.cast();
    input.norm_weight = std::ptr::null();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_covers_a_slice_or_has_whole_rounds_that_fit() {
        for n_tokens in 1..=MATMUL_GROUP_TOKENS {
            for n_slices in [1, 2, 4, 8] {
                for longest in [1, 5, 8, 64, 500] {
                    let steps = pass_steps(n_tokens, n_slices, longest);
                    assert!(steps == longest || steps.is_multiple_of(MATMUL_DECODE_DEPTH));
                    assert!(stage_bytes(n_tokens, n_slices * steps) <= STAGE_BYTES);
                }
            }
        }
    }
}
