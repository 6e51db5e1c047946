//! `logits` in plain loops.

use super::Logits;
use crate::backend::Dimensions;
use crate::reference::Reference;

pub(crate) fn run(op: Logits<'_, Reference>) {
    let (n_rows, vocab, width) = (op.rows.len(), op.weight.rows(), op.weight.cols());
    let inputs: Vec<&[f32]> = op
        .rows
        .iter()
        .map(|row| &op.x[row * width..][..width])
        .collect();
    let products = op.weight.products(&inputs);
    for (j, out) in op.out.chunks_exact_mut(vocab).take(n_rows).enumerate() {
        for (v, out) in out.iter_mut().enumerate() {
            let y = op.scale * products[v * n_rows + j];
            *out = op.soft_cap.map_or(y, |cap| cap * (y / cap).tanh());
        }
    }
}
