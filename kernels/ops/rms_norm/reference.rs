//! `rms_norm` in plain loops.

use super::RmsNorm;
use crate::reference::{Reference, dot};

pub(crate) fn run(op: RmsNorm<'_, Reference>) {
    let width = op.width;
    let weight = &op.weight[..width];
    let rows = op.x.chunks_exact(width).take(op.n_rows);
    for (x, out) in rows.zip(op.out.chunks_exact_mut(width)) {
        let factor = normaliser(x, op.epsilon);
        for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
            let y = x * factor * weight;
            *out = if op.accumulate { *out + y } else { y };
        }
    }
}

/// `1 / sqrt(mean x² + epsilon)`.
pub(crate) fn normaliser(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + epsilon).sqrt()
}
