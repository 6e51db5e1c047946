//! `moe_matmul` on a GPU: a launch a part of the experts' stack, each as matmul's for few tokens
//! with the places in y.

pub(crate) mod prefill;

use cudarc::driver::DeviceRepr;

use super::{Input, MoeMatmul, OP};
use crate::backend::{ExpertStack, RoutesArray};
use crate::cuda::Cuda;
use crate::cuda::abi::{
    MATMUL_GROUP_TOKENS, MATMUL_THREADS, MATMUL_WARPS, MatmulDecodeParams, MatmulF32Params,
    MatmulInput, MatmulOutput, MoeDecodeParams, MoeF32Params, MoePlaces,
};
use crate::cuda::experts::ExpertPart;
use crate::cuda::layout::{Tiling, tiling};
use crate::cuda::queue::{Launch, Queue};
use crate::error::Result;
use crate::ops::matmul::cuda::prefill::{Activations, Order};
use crate::ops::matmul::cuda::{n_blocks, pass_steps, plain_output, stage_bytes};
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for MoeDecodeParams {}
// SAFETY: as above.
unsafe impl DeviceRepr for MoeF32Params {}

/// What the launches of all parts share.
struct Places {
    /// Of a block of the kernels for few places.
    input: MatmulInput,
    places: MoePlaces,
    n_places: u32,
}

pub(crate) fn run(cuda: &Cuda, op: MoeMatmul<'_, Cuda>) -> Result<()> {
    let width = narrow(OP, op.experts.rows())?;
    let n_rows = narrow(OP, op.n_rows)?;
    let n_places = narrow(OP, op.n_rows * op.routes.shape().top_k)?;
    if n_places == 0 {
        return Ok(());
    }
    let (rows, n_inputs) = match op.input {
        Input::Rows => (op.routes.rows.pointer().cast_const(), n_rows),
        Input::Places => (std::ptr::null(), n_places),
    };
    let all_rows = MatmulInput {
        x: op.x.0.pointer(),
        rows: std::ptr::null(),
        norm_weight: std::ptr::null(),
        epsilon: 0.0,
        n_tokens: n_inputs,
        cols: narrow(OP, op.experts.cols())?,
    };
    let shared = Places {
        input: MatmulInput {
            rows,
            // No expert has a row twice.
            n_tokens: n_rows.min(MATMUL_GROUP_TOKENS),
            ..all_rows
        },
        places: MoePlaces {
            offsets: op.routes.offsets.pointer(),
            owners: op.routes.owners.pointer(),
            bias_stride: width,
        },
        n_places,
    };
    let layer = prefill::Layer {
        places: shared.places,
        rows,
        n_places,
        n_experts: narrow(OP, op.experts.n_experts())?,
    };
    let whole = MatmulOutput {
        bias: op.bias.map_or(std::ptr::null(), |bias| bias.0.pointer()),
        ..plain_output(op.out.0.pointer(), width)
    };
    let is_prefill = prefill::is_for(n_rows, n_places, layer.n_experts);
    let mut packed = Activations::new(&all_rows, Order::Tokens);
    let mut queue = cuda.queue();
    for part in op.experts.parts() {
        let mut output = whole;
        output.first = part.part.first_row;
        if !output.bias.is_null() {
            output.bias = output.bias.wrapping_add(part.part.first_row as usize);
        }
        // SAFETY: the arrays are as long as the check found them, and `out` is borrowed alone. The
        // routes are of these experts and rows.
        unsafe {
            match tiling(part.part.format) {
                Some(tiling) if is_prefill => {
                    let packed = packed.get(cuda, &mut queue, tiling.bf16)?.packed;
                    prefill::launch(cuda, &mut queue, part, &tiling, layer, packed, output)
                }
                Some(tiling) => decode(cuda, &mut queue, part, &tiling, &shared, output),
                None => f32_product(cuda, &mut queue, part, &shared, output),
            }
        }?;
    }
    Ok(())
}

/// The launch of a part in tiles, for few places.
///
/// # Safety
/// The pointers are to arrays of the shapes that `abi.h` states, and `out` overlaps no input.
unsafe fn decode(
    cuda: &Cuda,
    queue: &mut Queue,
    part: &ExpertPart,
    tiling: &Tiling,
    shared: &Places,
    output: MatmulOutput,
) -> Result<()> {
    let (weight, longest_slice) = part.part.weight(tiling);
    let n_tokens = shared.input.n_tokens;
    let n_groups = weight.n_tiles.div_ceil(MATMUL_WARPS >> weight.slice_bits);
    // All places together are to fill the GPU.
    let multiprocessors = cuda.device.gpu().multiprocessors;
    let share = multiprocessors.div_ceil(shared.n_places.div_ceil(n_tokens));
    let pass_steps = pass_steps(n_tokens, 1 << weight.slice_bits, longest_slice);
    let launch = Launch {
        module: tiling.experts_module,
        kernel: tiling.experts_decode,
        grid: (n_blocks(n_groups, n_tokens, share), shared.n_places, 1),
        threads: MATMUL_THREADS,
        shared_bytes: stage_bytes(n_tokens, pass_steps << weight.slice_bits),
        params: MoeDecodeParams {
            first: MatmulDecodeParams {
                weight,
                input: shared.input,
                output,
                longest_slice,
                pass_steps,
            },
            places: shared.places,
            quants_stride: part.quants_stride,
            scales_stride: part.scales_stride,
        },
    };
    // SAFETY: by the contract above; the launch is as `experts.cuh` asks for.
    unsafe { queue.launch(&cuda.device, &launch) }
}

/// The launch of a part in F32.
///
/// # Safety
/// As for [`decode`].
unsafe fn f32_product(
    cuda: &Cuda,
    queue: &mut Queue,
    part: &ExpertPart,
    shared: &Places,
    output: MatmulOutput,
) -> Result<()> {
    let n_rows = part.part.n_rows;
    let launch = Launch {
        module: "moe_matmul_f32",
        kernel: "moe_f32",
        grid: (n_rows.div_ceil(MATMUL_WARPS), shared.n_places, 1),
        threads: MATMUL_THREADS,
        shared_bytes: 0,
        params: MoeF32Params {
            first: MatmulF32Params {
                weights: part.part.quants().cast(),
                input: shared.input,
                output,
                n_rows,
            },
            places: shared.places,
            weights_stride: part.quants_stride / size_of::<f32>() as u64,
        },
    };
    // SAFETY: by the caller's contract.
    unsafe { queue.launch(&cuda.device, &launch) }
}
