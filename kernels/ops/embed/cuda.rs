//! `embed` on a GPU: a block a token, a launch a part of the table.

use cudarc::driver::DeviceRepr;

use super::{Embed, OP};
use crate::backend::Dimensions;
use crate::cuda::Cuda;
use crate::cuda::abi::{EMBED_THREADS, EmbedParams};
use crate::cuda::layout::tiling;
use crate::cuda::queue::Launch;
use crate::error::Result;
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for EmbedParams {}

/// Computes a checked [`Embed`].
pub(crate) fn run(cuda: &Cuda, op: Embed<'_, Cuda>) -> Result<()> {
    let mut queue = cuda.queue();
    let batch = queue.batch(&cuda.device, op.batch)?;
    for part in op.table.parts() {
        let launch = Launch {
            module: "embed",
            kernel: tiling(part.format).map_or("embed_f32", |tiling| tiling.embed),
            grid: (batch.n_rows, 1, 1),
            threads: EMBED_THREADS,
            shared_bytes: 0,
            params: EmbedParams {
                quants: part.quants(),
                scales: part.scales(),
                tokens: batch.tokens,
                out: op.out.0.pointer(),
                first_row: part.first_row,
                n_rows: part.n_rows,
                cols: narrow(OP, op.table.cols())?,
                n_steps: part.n_steps,
                scale: op.scale,
            },
        };
        // SAFETY: the arrays are as long as the check found them, `out` is borrowed alone, and
        // tokens are rows of the table.
        unsafe { queue.launch(&cuda.device, &launch) }?;
    }
    Ok(())
}
