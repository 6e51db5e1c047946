//! The memory that a model takes on a CPU, known before it is loaded.

use super::kv;
use super::tiles::{TILE_ROWS, tile_bytes};
use crate::backend::MatrixSource;
use crate::cpu::Cpu;
use crate::decode::HostDecoder;
use crate::memory::{MemoryPlan, ModelShape};

/// The memory that a model takes on a CPU. A shape that cannot be held at all takes `usize::MAX`;
/// loading says why.
pub fn plan(model: &ModelShape<'_>) -> MemoryPlan {
    let sources = model.stacks.iter().flat_map(|stack| &stack.sources);
    let weights = sources.map(matrix_bytes);
    MemoryPlan {
        weights: weights.fold(model.vector_bytes(), usize::saturating_add),
        kv_cache: kv::bytes(&model.kv).unwrap_or(usize::MAX),
        decoder: HostDecoder::<Cpu>::bytes(&model.decode),
        activations: model.activation_bytes(),
        scratch: model
            .intermediate_bytes()
            .saturating_add(packed_bytes(model)),
        ..MemoryPlan::default()
    }
}

/// Bytes of a matrix's tiles.
fn matrix_bytes(source: &MatrixSource<'_>) -> usize {
    let tile = tile_bytes(source.format, source.cols);
    tile.and_then(|bytes| bytes.checked_mul(source.rows.div_ceil(TILE_ROWS)))
        .unwrap_or(usize::MAX)
}

/// Bytes of packed activations at the most, which takes `f32` that stay as they are.
fn packed_bytes(model: &ModelShape<'_>) -> usize {
    let values = model.stacks.iter().map(|stack| {
        let cols = stack.sources.first().map_or(0, |source| source.cols);
        stack.n_rows.saturating_mul(cols)
    });
    values.max().unwrap_or(0).saturating_mul(size_of::<f32>())
}
