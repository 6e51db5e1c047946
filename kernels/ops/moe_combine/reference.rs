//! `moe_combine` in plain loops.

use super::MoeCombine;
use crate::backend::RoutesArray;
use crate::reference::Reference;

pub(crate) fn run(op: MoeCombine<'_, Reference>) {
    let (width, top_k) = (op.width, op.routes.shape().top_k);
    for (row, out) in op.out.chunks_exact_mut(width).take(op.n_rows).enumerate() {
        for (i, out) in out.iter_mut().enumerate() {
            let mut y = 0.0;
            for slot in row * top_k..(row + 1) * top_k {
                let place = op.routes.places[slot] as usize;
                y += op.routes.weights[slot] * op.x[place * width + i];
            }
            *out = if op.accumulate { *out + y } else { y };
        }
    }
}
