//! `logits` on a GPU: the matmul of the chosen rows, scaled and capped as it is written.

use super::{Logits, OP};
use crate::backend::Dimensions;
use crate::cuda::Cuda;
use crate::cuda::abi::{MatmulInput, MatmulOutput};
use crate::error::Result;
use crate::ops::matmul::cuda::{Product, launch_product, plain_output};
use crate::ops::narrow;

/// The name of the list of rows in device memory.
pub(crate) const ROWS: &str = "rows to score";

/// Computes checked [`Logits`].
pub(crate) fn run(cuda: &Cuda, op: Logits<'_, Cuda>) -> Result<()> {
    let rows = op.rows.iter().map(|&row| narrow(OP, row));
    let rows = rows.collect::<Result<Vec<u32>>>()?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut queue = cuda.queue();
    // The first rows need no list, and so nothing that a captured graph would have to keep.
    let indices = match rows.iter().copied().eq(0..rows.len() as u32) {
        true => std::ptr::null(),
        false => queue.indices(&cuda.device, ROWS, &rows)?,
    };
    let product = Product {
        input: MatmulInput {
            x: op.x.0.pointer(),
            rows: indices,
            norm_weight: std::ptr::null(),
            epsilon: 0.0,
            n_tokens: narrow(OP, rows.len())?,
            cols: narrow(OP, op.weight.cols())?,
        },
        weight: op.weight,
        output: MatmulOutput {
            scale: op.scale,
            soft_cap: op.soft_cap.unwrap_or(0.0),
            ..plain_output(op.out.0.pointer(), narrow(OP, op.weight.rows())?)
        },
    };
    // SAFETY: the arrays are as long as the check found them, and `out` is borrowed alone.
    unsafe { launch_product(cuda, &mut queue, &product) }
}
