//! The memory that a model takes on a GPU, known without one, and taking it all at once.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use cudarc::driver::result;

use super::array::failed;
use super::batch;
use super::decode::{CudaDecoder, padded_rows, stride};
use super::matrix::{part_bytes, stackable};
use super::staging;
use super::{Cuda, KvType, kv};
use crate::backend::PAGE_TOKENS;
use crate::decode::DecodeShape;
use crate::error::Result;
use crate::memory::{MemoryPlan, ModelShape, Stack};
use crate::ops::{attention, logits, matmul};
use crate::quant::Format;

/// Allowed for each launch of a recorded step.
const NODE_BYTES: usize = 4 << 10;
/// Launches of a layer, and those of a step beside its layers, at most: a layer has five, and more
/// where it has post-norms or stacks of several formats.
const LAYER_LAUNCHES: usize = 16;
/// Allowed for what the driver's allocator rounds up: it takes memory in pieces of 2 MiB.
const ROUNDED_BYTES: usize = 32 << 20;
/// Allowed for the driver's context and the kernels' code.
const CONTEXT_BYTES: usize = 512 << 20;

/// The memory that a model takes on a GPU whose cache is of `kv_type`. A shape that the GPU cannot
/// hold at all takes `usize::MAX`; loading says why.
pub fn plan(kv_type: KvType, model: &ModelShape<'_>) -> MemoryPlan {
    plan_with(kv_type, &[], model)
}

/// The same where weights of `hopper_formats` have kernels of Hopper's.
fn plan_with(kv_type: KvType, hopper_formats: &[Format], model: &ModelShape<'_>) -> MemoryPlan {
    let weights = model.stacks.iter().map(stack_bytes);
    let weights = weights.fold(model.vector_bytes(), usize::saturating_add);
    let scratch = match scratch(model, hopper_formats) {
        Ok(scratch) => scratch.values().copied().fold(0, usize::saturating_add),
        Err(_) => usize::MAX,
    };
    MemoryPlan {
        weights,
        kv_cache: kv::bytes(&model.kv, kv_type).unwrap_or(usize::MAX),
        decoder: CudaDecoder::bytes(&model.decode),
        activations: model.activation_bytes(),
        scratch: scratch.saturating_add(kept_bytes(model)),
        loading: loading_bytes(model),
        graphs: graph_bytes(model),
        context: CONTEXT_BYTES,
    }
}

/// Bytes of a stack's parts.
fn stack_bytes(stack: &Stack<'_>) -> usize {
    let mut rest = &stack.sources[..];
    let mut bytes = 0_usize;
    while let [first, ..] = rest {
        let (part, others) = rest.split_at(stackable(rest));
        let rows = part.iter().map(|source| source.rows).sum();
        let (quants, scales) = part_bytes(first.format, rows, first.cols);
        bytes = bytes.saturating_add(quants).saturating_add(scales);
        rest = others;
    }
    bytes
}

/// Scratch memory by its name.
fn scratch(
    model: &ModelShape<'_>,
    hopper_formats: &[Format],
) -> Result<BTreeMap<&'static str, usize>> {
    let mut most = BTreeMap::new();
    let mut note = |what, bytes: usize| {
        let held: &mut usize = most.entry(what).or_default();
        *held = bytes.max(*held);
    };
    for stack in &model.stacks {
        matmul::cuda::plan::scratch(stack, hopper_formats, &mut note)?;
    }
    for (&n_heads, &(_, head_dim)) in model.n_heads.iter().zip(&model.kv.layers) {
        let states = attention::cuda::n_states(&model.decode, model.max_rows);
        let bytes = attention::cuda::state_bytes(kv::width(head_dim)?, states, n_heads);
        note(attention::cuda::STATES, bytes);
    }
    Ok(most)
}

/// Bytes of what the queue keeps: the batch, the rows to score, the rotary frequencies, counters.
fn kept_bytes(model: &ModelShape<'_>) -> usize {
    let mut frequencies: Vec<&[f32]> = Vec::new();
    for &layer in &model.frequencies {
        if !frequencies.contains(&layer) {
            frequencies.push(layer);
        }
    }
    let constants: usize = frequencies.iter().map(|layer| layer.len()).sum();
    let words = batch_words(model) + model.decode.n_logits + constants + n_counters(model);
    words * size_of::<u32>()
}

/// Counters of splits of attention.
fn n_counters(model: &ModelShape<'_>) -> usize {
    let n_heads = model.n_heads.iter().copied().max().unwrap_or(0);
    attention::cuda::n_counters(&model.decode, n_heads)
}

/// Words of the largest batch.
fn batch_words(model: &ModelShape<'_>) -> usize {
    let n_spans = model.decode.n_slots.min(model.max_rows);
    let n_pages = model.decode.n_ctx.div_ceil(PAGE_TOKENS);
    batch::n_words(model.max_rows, n_spans, n_spans * n_pages)
}

/// Bytes of the two chunks on the device that weights come through.
fn loading_bytes(model: &ModelShape<'_>) -> usize {
    let sources = model.stacks.iter().flat_map(|stack| &stack.sources);
    let row_bytes = sources.map(|source| source.data.len() / source.rows.max(1));
    2 * staging::chunk_bytes(row_bytes.max().unwrap_or(0))
}

/// Allowed for the recorded steps: one for each number of rows and length of block tables.
fn graph_bytes(model: &ModelShape<'_>) -> usize {
    let DecodeShape { n_slots, n_ctx, .. } = model.decode;
    let small = padded_rows(n_slots).min(PAGE_TOKENS).ilog2() as usize + 1;
    let large = padded_rows(n_slots).saturating_sub(PAGE_TOKENS) / PAGE_TOKENS;
    let n_pages = n_ctx.div_ceil(PAGE_TOKENS).max(1);
    let lengths = (stride(n_pages) / stride(1)).ilog2() as usize + 1;
    let launches = (model.kv.layers.len() + 1) * LAYER_LAUNCHES;
    (small + large) * lengths * launches * NODE_BYTES + ROUNDED_BYTES
}

impl Cuda {
    /// What a model takes on this GPU.
    pub(super) fn plan_of(&self, model: &ModelShape<'_>) -> MemoryPlan {
        plan_with(self.kv_type(), self.hopper_formats(), model)
    }

    /// What the GPU has free.
    ///
    /// # Errors
    /// What the driver says.
    pub(super) fn free(&self) -> Result<usize> {
        self.device.bind()?;
        let free = result::mem_get_info().map_err(|error| failed("ask for free memory", error))?;
        Ok(free.0)
    }

    /// Allocates what passes of the model need beside their operands, and frees what only loading
    /// needed.
    ///
    /// # Errors
    /// No memory, or what the driver says.
    pub(super) fn take_room(&self, model: &ModelShape<'_>) -> Result<()> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        drop(staging.take());
        let device = &self.device;
        let mut queue = self.queue();
        for (what, bytes) in scratch(model, self.hopper_formats())? {
            queue.scratch(device, what, bytes)?;
        }
        queue.counters(device, attention::cuda::DONE, n_counters(model))?;
        queue.reserve_batch(device, batch_words(model))?;
        queue.reserve_indices(device, logits::cuda::ROWS, model.decode.n_logits)?;
        for frequencies in &model.frequencies {
            queue.constants(device, frequencies)?;
        }
        Ok(())
    }
}
