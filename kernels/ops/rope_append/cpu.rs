//! `rope_append` on the CPU: rows in parallel, each normalised, rotated and stored while it is
//! in the nearest cache.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use super::{Rope, RopeAppend, RopePairs};
use crate::backend::{PAGE_TOKENS, Span};
use crate::cpu::kv::Writer;
use crate::cpu::memory::Shared;
use crate::cpu::pool::Pool;
use crate::cpu::simd::{Kernel, LANES, Simd, dispatch};
use crate::cpu::{Cpu, SHARE};
use crate::ops::rms_norm::cpu::normaliser;

pub(crate) fn run(cpu: &Cpu, op: RopeAppend<'_, Cpu>) {
    let n_rows = op.batch.n_rows();
    let width = (op.n_heads + 2 * op.n_kv_heads) * op.head_dim;
    let turns = op
        .rope
        .map(|rope| cpu.turns.of(&cpu.pool, rope, &op.batch.positions));
    let qkv = Shared::new(&mut op.qkv[..n_rows * width]);
    let writer = op.kv.writer(op.layer);
    cpu.pool.split(n_rows, SHARE.div_ceil(width), |rows| {
        for span in &op.batch.spans {
            let first = rows.start.max(span.rows.start);
            let last = rows.end.min(span.rows.end);
            for row in first..last {
                dispatch(
                    cpu.isa,
                    Row {
                        // SAFETY: workers have different rows.
                        qkv: unsafe { qkv.part(row * width..(row + 1) * width) },
                        head_dim: op.head_dim,
                        n_heads: op.n_heads,
                        norms: [op.q_norm, op.k_norm].map(|norm| norm.map(|w| &w[..op.head_dim])),
                        epsilon: op.epsilon,
                        rotation: turns.as_ref().zip(op.rope).map(|(turns, rope)| Rotation {
                            turns: turns.row(row),
                            pairs: rope.pairs,
                        }),
                        place: place(span, row),
                        writer: &writer,
                    },
                );
            }
        }
    });
}

/// Page and slot of a row.
fn place(span: &Span, row: usize) -> (u32, usize) {
    let position = span.position + row - span.rows.start;
    let page = span.block_table[position / PAGE_TOKENS];
    (page, position % PAGE_TOKENS)
}

struct Row<'a> {
    qkv: &'a mut [f32],
    head_dim: usize,
    n_heads: usize,
    /// Of the query heads and of the key heads.
    norms: [Option<&'a [f32]>; 2],
    epsilon: f32,
    rotation: Option<Rotation<'a>>,
    place: (u32, usize),
    writer: &'a Writer<'a>,
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let head_dim = self.head_dim;
        let (queries, rest) = self.qkv.split_at_mut(self.n_heads * head_dim);
        let (keys, values) = rest.split_at_mut(rest.len() / 2);
        for (heads, norm) in [&mut *queries, &mut *keys].into_iter().zip(self.norms) {
            for head in heads.chunks_exact_mut(head_dim) {
                if let Some(weight) = norm {
                    normalise(s, head, weight, self.epsilon);
                }
                if let Some(rotation) = &self.rotation {
                    rotation.apply(s, head);
                }
            }
        }
        let (page, slot) = self.place;
        let heads = keys
            .chunks_exact(head_dim)
            .zip(values.chunks_exact(head_dim));
        for (head, (key, value)) in heads.enumerate() {
            // SAFETY: the check found every row's place to be its own.
            unsafe { self.writer.store(s, (page, slot, head), key, value) };
        }
    }
}

#[inline(always)]
fn normalise<S: Simd>(s: S, head: &mut [f32], weight: &[f32], epsilon: f32) {
    let factor = s.splat(normaliser(s, head, epsilon));
    for (x, weight) in head.chunks_mut(LANES).zip(weight.chunks(LANES)) {
        let y = s.mul(s.mul(s.load_chunk(x), factor), s.load_chunk(weight));
        s.store_chunk(y, x);
    }
}

/// The rotation of one row.
struct Rotation<'a> {
    turns: (&'a [f32], &'a [f32]),
    pairs: RopePairs,
}

impl Rotation<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, head: &mut [f32]) {
        let (cos, sin) = self.turns;
        let n = cos.len();
        match self.pairs {
            RopePairs::Halves => {
                let (a, rest) = head.split_at_mut(n);
                let pairs = a.chunks_mut(LANES).zip(rest[..n].chunks_mut(LANES));
                let turns = cos.chunks(LANES).zip(sin.chunks(LANES));
                for ((a, b), (cos, sin)) in pairs.zip(turns) {
                    let (x, y) = (s.load_chunk(a), s.load_chunk(b));
                    let (cos, sin) = (s.load_chunk(cos), s.load_chunk(sin));
                    s.store_chunk(s.sub(s.mul(x, cos), s.mul(y, sin)), a);
                    s.store_chunk(s.add(s.mul(y, cos), s.mul(x, sin)), b);
                }
            }
            RopePairs::Adjacent => {
                for (pair, (&cos, &sin)) in head.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * cos - b * sin;
                    pair[1] = b * cos + a * sin;
                }
            }
        }
    }
}

/// Cosines and sines of the rows of one batch, times the attention factor.
struct Turns {
    inverse_frequencies: Vec<f32>,
    attention_factor: f32,
    positions: Vec<u32>,
    /// `[n_rows, 2, n_frequencies]`: cosines, then sines.
    values: Vec<f32>,
}

impl Turns {
    fn new(pool: &Pool, rope: &Rope, positions: &[u32]) -> Turns {
        let n = rope.inverse_frequencies.len();
        let mut values = vec![0.0; positions.len() * 2 * n];
        let shared = Shared::new(&mut values);
        pool.split(positions.len(), (SHARE / 16).div_ceil(n.max(1)), |rows| {
            for row in rows {
                // SAFETY: workers have different rows.
                let row_values = unsafe { shared.part(row * 2 * n..(row + 1) * 2 * n) };
                let (cos, sin) = row_values.split_at_mut(n);
                for (j, frequency) in rope.inverse_frequencies.iter().enumerate() {
                    let turn = (positions[row] as f32 * frequency).sin_cos();
                    sin[j] = turn.0 * rope.attention_factor;
                    cos[j] = turn.1 * rope.attention_factor;
                }
            }
        });
        Turns {
            inverse_frequencies: rope.inverse_frequencies.clone(),
            attention_factor: rope.attention_factor,
            positions: positions.to_vec(),
            values,
        }
    }

    fn is_of(&self, rope: &Rope, positions: &[u32]) -> bool {
        self.positions == positions
            && self.attention_factor == rope.attention_factor
            && self.inverse_frequencies == rope.inverse_frequencies
    }

    fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let n = self.inverse_frequencies.len();
        self.values[row * 2 * n..(row + 1) * 2 * n].split_at(n)
    }
}

/// The last few [`Turns`]: the layers of a pass share positions, and a model has one or two
/// kinds of rotation.
#[derive(Default)]
pub(crate) struct TurnsCache {
    recent: Mutex<Vec<Arc<Turns>>>,
}

impl TurnsCache {
    const LEN: usize = 4;

    fn of(&self, pool: &Pool, rope: &Rope, positions: &[u32]) -> Arc<Turns> {
        let lock = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().iter().find(|t| t.is_of(rope, positions)).cloned();
        known.unwrap_or_else(|| {
            // Not under the lock: the pool may be waited for.
            let turns = Arc::new(Turns::new(pool, rope, positions));
            let mut recent = lock();
            recent.truncate(Self::LEN - 1);
            recent.insert(0, Arc::clone(&turns));
            turns
        })
    }
}
