//! `rope_append` in plain loops.

use super::{Rope, RopeAppend, RopePairs};
use crate::ops::rms_norm::reference::normaliser;
use crate::reference::Reference;

pub(crate) fn run(op: RopeAppend<'_, Reference>) {
    let head_dim = op.head_dim;
    let q_width = op.n_heads * head_dim;
    let kv_width = op.n_kv_heads * head_dim;
    let row_width = q_width + 2 * kv_width;
    let layer = op.kv.layer_mut(op.layer);
    for span in &op.batch.spans {
        for (i, row) in span.rows.clone().enumerate() {
            let position = span.position + i;
            let row = &mut op.qkv[row * row_width..][..row_width];
            let (queries, row) = row.split_at_mut(q_width);
            let (keys, values) = row.split_at_mut(kv_width);
            let turns = op.rope.map(|rope| Turns::at(rope, position));
            for (heads, norm) in [(queries, op.q_norm), (&mut *keys, op.k_norm)] {
                for head in heads.chunks_exact_mut(head_dim) {
                    if let Some(weight) = norm {
                        normalise(head, weight, op.epsilon);
                    }
                    if let Some(turns) = &turns {
                        turns.rotate(head);
                    }
                }
            }
            layer.store(span, position, keys, values);
        }
    }
}

fn normalise(head: &mut [f32], weight: &[f32], epsilon: f32) {
    let factor = normaliser(head, epsilon);
    for (x, &weight) in head.iter_mut().zip(weight) {
        *x = *x * factor * weight;
    }
}

/// `(cos θ_j, sin θ_j)` times the attention factor, of every pair at one position.
struct Turns {
    turns: Vec<(f32, f32)>,
    pairs: RopePairs,
}

impl Turns {
    fn at(rope: &Rope, position: usize) -> Self {
        let turn = |&frequency: &f32| {
            let (sin, cos) = (position as f32 * frequency).sin_cos();
            (cos * rope.attention_factor, sin * rope.attention_factor)
        };
        Self {
            turns: rope.inverse_frequencies.iter().map(turn).collect(),
            pairs: rope.pairs,
        }
    }

    fn rotate(&self, head: &mut [f32]) {
        for (j, &(cos, sin)) in self.turns.iter().enumerate() {
            let (first, second) = match self.pairs {
                RopePairs::Halves => (j, j + self.turns.len()),
                RopePairs::Adjacent => (2 * j, 2 * j + 1),
            };
            let (a, b) = (head[first], head[second]);
            head[first] = a * cos - b * sin;
            head[second] = b * cos + a * sin;
        }
    }
}
