//! `rope_append` on a GPU: one launch, a warp for each head of a row.

use cudarc::driver::DeviceRepr;

use super::{OP, RopeAppend, RopePairs};
use crate::cuda::abi::{ROPE_APPEND_HEADS, ROPE_APPEND_THREADS, RopeAppendParams, RopeNorm};
use crate::cuda::queue::{Launch, Queue};
use crate::cuda::{Buffer, Cuda};
use crate::error::Result;
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for RopeAppendParams {}

impl RopeNorm {
    /// Heads that stay as they are.
    pub(crate) const NONE: Self = Self {
        q_norm: std::ptr::null(),
        k_norm: std::ptr::null(),
        frequencies: std::ptr::null(),
        n_pairs: 0,
        adjacent: 0,
        epsilon: 0.0,
        attention_factor: 1.0,
    };

    /// How the operation has its heads prepared.
    ///
    /// # Errors
    /// More pairs than kernels count, or no memory for the frequencies.
    pub(crate) fn new(cuda: &Cuda, queue: &mut Queue, op: &RopeAppend<'_, Cuda>) -> Result<Self> {
        let pointer = |buffer: Option<&Buffer>| {
            buffer.map_or(std::ptr::null(), |buffer| buffer.0.pointer().cast_const())
        };
        let norms = Self {
            q_norm: pointer(op.q_norm),
            k_norm: pointer(op.k_norm),
            epsilon: op.epsilon,
            ..Self::NONE
        };
        let Some(rope) = op.rope else {
            return Ok(norms);
        };
        Ok(Self {
            frequencies: queue.constants(&cuda.device, &rope.inverse_frequencies)?,
            n_pairs: narrow(OP, rope.inverse_frequencies.len())?,
            adjacent: (rope.pairs == RopePairs::Adjacent).into(),
            attention_factor: rope.attention_factor,
            ..norms
        })
    }
}

pub(crate) fn run(cuda: &Cuda, op: RopeAppend<'_, Cuda>) -> Result<()> {
    let row_heads = op.n_heads + 2 * op.n_kv_heads;
    let mut queue = cuda.queue();
    let launch = Launch {
        module: "rope_append",
        kernel: "rope_append",
        grid: (
            narrow(OP, op.batch.n_rows())?,
            narrow(OP, row_heads)?.div_ceil(ROPE_APPEND_HEADS),
            1,
        ),
        threads: ROPE_APPEND_THREADS,
        shared_bytes: 0,
        params: RopeAppendParams {
            qkv: op.qkv.0.pointer(),
            rope: RopeNorm::new(cuda, &mut queue, &op)?,
            batch: queue.batch(&cuda.device, op.batch)?,
            kv: op.kv.layer(op.layer),
            n_heads: narrow(OP, op.n_heads)?,
            n_kv_heads: narrow(OP, op.n_kv_heads)?,
        },
    };
    // SAFETY: the arrays are as long as the shape says and the pages are in the cache, both
    // borrowed alone; no two rows have the same place.
    unsafe { queue.launch(&cuda.device, &launch) }
}
