//! `rope_append` on a GPU: one launch, a warp for each head of a row.

use cudarc::driver::DeviceRepr;

use super::{OP, RopeAppend, RopePairs};
use crate::cuda::abi::{ROPE_APPEND_HEADS, ROPE_APPEND_THREADS, RopeAppendParams};
use crate::cuda::queue::Launch;
use crate::cuda::{Buffer, Cuda};
use crate::error::Result;
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for RopeAppendParams {}

pub(crate) fn run(cuda: &Cuda, op: RopeAppend<'_, Cuda>) -> Result<()> {
    let row_heads = op.n_heads + 2 * op.n_kv_heads;
    let pointer = |buffer: Option<&Buffer>| {
        buffer.map_or(std::ptr::null(), |buffer| buffer.0.pointer().cast_const())
    };
    let frequencies = op.rope.map_or(&[][..], |rope| &rope.inverse_frequencies);
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
            q_norm: pointer(op.q_norm),
            k_norm: pointer(op.k_norm),
            frequencies: queue.constants(&cuda.device, frequencies)?,
            batch: queue.batch(&cuda.device, op.batch)?,
            kv: op.kv.layer(op.layer),
            n_heads: narrow(OP, op.n_heads)?,
            n_kv_heads: narrow(OP, op.n_kv_heads)?,
            n_pairs: narrow(OP, frequencies.len())?,
            adjacent: op
                .rope
                .is_some_and(|rope| rope.pairs == RopePairs::Adjacent)
                .into(),
            epsilon: op.epsilon,
            attention_factor: op.rope.map_or(1.0, |rope| rope.attention_factor),
        },
    };
    // SAFETY: the arrays are as long as the shape says and the pages are in the cache, both
    // borrowed alone; no two rows have the same place.
    unsafe { queue.launch(&cuda.device, &launch) }
}
