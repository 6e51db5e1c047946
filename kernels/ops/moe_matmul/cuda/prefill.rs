//! Many places of an expert: its matrices are read once for 32 or 64 of them.

use cudarc::driver::DeviceRepr;

use crate::cuda::abi::{
    MATMUL_GROUP_TOKENS, MATMUL_STEP_COLS, MATMUL_SUPER_BLOCK_STEPS, MATMUL_THREADS, MATMUL_WARPS,
    MatmulOutput, MatmulPacked, MoePlaces, MoePrefillParams,
};
use crate::cuda::experts::ExpertPart;
use crate::cuda::layout::{Tiling, tiling};
use crate::cuda::queue::{Launch, Queue};
use crate::cuda::{Cuda, SharedMemory};
use crate::error::Result;
use crate::ops::matmul::cuda::prefill::shared_bytes_without_sums;
use crate::quant::Format;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for MoePrefillParams {}

/// Places of an expert, on an average, from which these kernels are used: some then have more than
/// the eight for which the other kernel reads the weights once.
const LEAST_PLACES: u32 = 4;

/// What the launches of all parts share.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    pub(super) places: MoePlaces,
    /// The row of each place; null where the activations are the places' own.
    pub(super) rows: *const u32,
    pub(super) n_places: u32,
    pub(super) n_experts: u32,
}

/// Whether these kernels are for `n_rows` rows and their places. No expert has a row twice.
pub(super) fn is_for(n_rows: u32, n_places: u32, n_experts: u32) -> bool {
    n_rows > MATMUL_GROUP_TOKENS && n_places / LEAST_PLACES >= n_experts
}

/// What the launches of every kernel take of shared memory.
pub(crate) fn shared_memory() -> impl Iterator<Item = SharedMemory> {
    let of_format = |tiling: Tiling| {
        let kernels = tiling.experts_prefill.into_iter();
        kernels.map(move |(n_places, kernel)| {
            SharedMemory::always(kernel, shared_bytes(&tiling, n_places))
        })
    };
    let tilings = Format::ALL.into_iter().filter_map(tiling);
    tilings.flat_map(of_format)
}

/// Launches the kernel of a part.
///
/// # Safety
/// `packed` holds the rows, each for itself, of as many columns as the part has; the pointers are
/// to arrays of the shapes that `abi.h` states, and `out` overlaps no input.
pub(super) unsafe fn launch(
    cuda: &Cuda,
    queue: &mut Queue,
    part: &ExpertPart,
    tiling: &Tiling,
    layer: Layer,
    packed: MatmulPacked,
    output: MatmulOutput,
) -> Result<()> {
    let (weight, _) = part.part.weight(tiling);
    let Layer {
        n_places,
        n_experts,
        ..
    } = layer;
    let [narrow, wide] = tiling.experts_prefill;
    let (tile_places, kernel) = match n_places.div_ceil(n_experts) <= narrow.0 {
        true => narrow,
        false => wide,
    };
    let launch = Launch {
        module: tiling.experts_module,
        kernel,
        grid: (
            n_places / tile_places + n_experts,
            weight.n_tiles.div_ceil(MATMUL_WARPS),
            1,
        ),
        threads: MATMUL_THREADS,
        shared_bytes: shared_bytes(tiling, tile_places),
        params: MoePrefillParams {
            weight,
            packed,
            output,
            places: layer.places,
            rows: layer.rows,
            quants_stride: part.quants_stride,
            scales_stride: part.scales_stride,
            n_experts,
        },
    };
    // SAFETY: by the contract above; the launch is as `prefill.cuh` asks for.
    unsafe { queue.launch(&cuda.device, &launch) }
}

/// Shared memory of a block, as `prefill.cuh` lays it out.
fn shared_bytes(tiling: &Tiling, n_places: u32) -> u32 {
    const SLOTS: u32 = 2;
    let token_sums = MATMUL_SUPER_BLOCK_STEPS * MATMUL_STEP_COLS / 32 * 4;
    let sums = match tiling.has_minima {
        true => SLOTS * n_places * token_sums,
        false => 0,
    };
    shared_bytes_without_sums(tiling, n_places) + sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_into_the_least_shared_memory_of_any_gpu() {
        // 99 KiB on compute capability 8.6, 8.9 and 12.0; places, rows and factors are static.
        for tiling in Format::ALL.into_iter().filter_map(tiling) {
            for (n_places, kernel) in tiling.experts_prefill {
                let bytes = shared_bytes(&tiling, n_places) + 4 * (2 * n_places + 3);
                assert!(bytes <= 99 << 10, "{kernel}");
            }
        }
    }

    #[test]
    fn few_places_of_an_expert_are_for_the_other_kernels() {
        // Rows, experts of a row, experts; a batch of requests and a prompt of Qwen3's 128.
        for (n_rows, top_k, n_experts, expected) in [
            (8, 2, 2, false),
            (9, 2, 4, true),
            (9, 2, 8, false),
            (16, 8, 128, false),
            (512, 8, 128, true),
        ] {
            let found = is_for(n_rows, n_rows * top_k, n_experts);
            assert_eq!(found, expected, "{n_rows} rows to {top_k} of {n_experts}");
        }
    }
}
