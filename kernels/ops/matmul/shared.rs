//! What the launches of the matmul kernels take of shared memory, those for few rows of experts
//! among them.

use super::cuda::{pass_steps, prefill, stage_bytes};
use crate::cuda::SharedMemory;
use crate::cuda::abi::{
    MATMUL_GROUP_TOKENS, MATMUL_HOPPER_SHARED_BYTES, MATMUL_MAX_SLICES, MATMUL_STEP_COLS,
    MATMUL_TILE_ROWS,
};
use crate::cuda::layout::{Tiling, tiling};
use crate::cuda::matrix::Slices;
use crate::quant::Format;

/// Rows and columns of a matrix of a model of some billion weights.
const TYPICAL_SIDE: u32 = 4096;

/// Of every kernel.
pub(crate) fn memory() -> Vec<SharedMemory> {
    let largest = largest_stage();
    let of_format = |tiling: Tiling| {
        let typical = typical_stage(&tiling);
        let decode = [tiling.decode, tiling.experts_decode].map(|kernel| SharedMemory {
            kernel,
            typical,
            largest,
        });
        let prefill = prefill::shared_memory(tiling);
        let hopper = SharedMemory::always(tiling.hopper, MATMUL_HOPPER_SHARED_BYTES);
        decode.into_iter().chain(prefill).chain([hopper])
    };
    let tilings = Format::ALL.into_iter().filter_map(tiling);
    tilings.flat_map(of_format).collect()
}

/// Of a block for one token and a typical matrix.
fn typical_stage(tiling: &Tiling) -> u32 {
    let n_tiles = TYPICAL_SIDE / MATMUL_TILE_ROWS;
    let slices = Slices::new(n_tiles, TYPICAL_SIDE / MATMUL_STEP_COLS, tiling);
    let steps = pass_steps(1, 1 << slices.bits, slices.longest);
    stage_bytes(1, steps << slices.bits)
}

/// The most of a block for up to eight tokens and any matrix: that of the longest slices which a
/// pass covers; those of longer ones take no more.
fn largest_stage() -> u32 {
    let of_slices = |n_tokens: u32, bits: u32| {
        let is_covered = |&longest: &u32| pass_steps(n_tokens, 1 << bits, longest) == longest;
        let longest = (1..).take_while(is_covered).last().unwrap_or(0);
        stage_bytes(n_tokens, longest << bits)
    };
    let slices = 0..=MATMUL_MAX_SLICES.ilog2();
    (1..=MATMUL_GROUP_TOKENS)
        .flat_map(|n_tokens| slices.clone().map(move |bits| of_slices(n_tokens, bits)))
        .max()
        .unwrap_or(0)
}
