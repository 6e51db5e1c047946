//! `matmul` in plain loops.

use super::Matmul;
use crate::backend::Dimensions;
use crate::reference::Reference;

pub(crate) fn run(op: Matmul<'_, Reference>) {
    let (n_rows, rows, cols) = (op.n_rows, op.weight.rows(), op.weight.cols());
    let inputs: Vec<&[f32]> = op.x.chunks_exact(cols).take(n_rows).collect();
    let products = op.weight.products(&inputs);
    for (r, out) in op.out.chunks_exact_mut(rows).take(n_rows).enumerate() {
        for (o, out) in out.iter_mut().enumerate() {
            let mut y = products[o * n_rows + r];
            if let Some(bias) = op.bias {
                y += bias[o];
            }
            *out = if op.accumulate { *out + y } else { y };
        }
    }
}
