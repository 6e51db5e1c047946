//! `embed` in plain loops.

use super::Embed;
use crate::backend::Dimensions;
use crate::reference::Reference;

pub(crate) fn run(op: Embed<'_, Reference>) {
    let width = op.table.cols();
    for (&token, out) in op.batch.tokens.iter().zip(op.out.chunks_exact_mut(width)) {
        op.table.row(token as usize, out);
        for value in out {
            *value *= op.scale;
        }
    }
}
