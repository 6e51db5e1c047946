//! `attention` in plain loops: the softmax in two passes over all scores of a row, exponentials
//! by the standard library, sums in f32 in ascending order of position.

use rayon::prelude::*;

use super::Attention;
use crate::backend::Span;
use crate::reference::{Reference, dot};

pub(crate) fn run(op: Attention<'_, Reference>) {
    let Attention { batch, out, .. } = op;
    let q_width = op.n_heads * op.head_dim;
    let kv_width = op.n_kv_heads * op.head_dim;
    let layer = op.kv.layer(op.layer);
    let group = op.n_heads / op.n_kv_heads;

    let spans: Vec<(&Span, usize)> = batch
        .spans
        .iter()
        .flat_map(|span| (0..span.rows.len()).map(move |i| (span, span.position + i)))
        .collect();
    let out = &mut out[..batch.n_rows() * q_width];
    let heads = out.par_chunks_exact_mut(op.head_dim).enumerate();
    heads.for_each(|(index, out)| {
        let (row, head) = (index / op.n_heads, index % op.n_heads);
        let (span, position) = spans[row];
        let query = &op.qkv[row * (q_width + 2 * kv_width) + head * op.head_dim..][..op.head_dim];
        let seen = op.mask.visible(position, span.position + span.rows.len());
        let score = |p| {
            let score = op.scale * dot(query, layer.key(span, p, head / group));
            op.soft_cap.map_or(score, |cap| cap * (score / cap).tanh())
        };
        let mut weights: Vec<f32> = seen.clone().map(score).collect();
        let max = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for weight in &mut weights {
            *weight = (*weight - max).exp();
        }
        let total: f32 = weights.iter().sum();
        out.fill(0.0);
        for (p, weight) in seen.zip(weights) {
            let value = layer.value(span, p, head / group);
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight * value;
            }
        }
        for out in out {
            *out /= total;
        }
    });
}
