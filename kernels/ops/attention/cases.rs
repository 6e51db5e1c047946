//! The cases of `attention`.

use super::{Attention, Mask};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::registry::sequences::{self, LAYER};
use crate::ops::registry::{Case, Cost, Heads, N_ROWS, Prepared, Sequence, Tolerance, fetch};

/// A layer's heads and the tokens it attends with and to.
#[derive(Clone, Debug)]
pub struct AttentionCase {
    /// Heads of the layer.
    pub heads: Heads,
    /// Sequences of the batch.
    pub sequences: Vec<Sequence>,
    /// Bound of the scores.
    pub soft_cap: Option<f32>,
    /// Which positions a row sees.
    pub mask: Mask,
    /// Rows whose outputs are looked at, the first of all.
    pub n_shown: usize,
}

struct Arguments<B: Backend> {
    case: AttentionCase,
    shared: sequences::Arguments<B>,
    out: B::Buffer,
}

/// Heads as they are found, a single one, and groups of 1 to 8.
const HEADS: [Heads; 8] = [
    heads(1, 1, 16),
    heads(4, 1, 256),
    heads(14, 2, 64),
    heads(6, 6, 80),
    heads(12, 2, 128),
    heads(4, 2, 96),
    heads(8, 1, 64),
    heads(2, 2, 192),
];

const fn heads(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> Heads {
    Heads {
        n_heads,
        n_kv_heads,
        head_dim,
    }
}

pub(crate) fn all() -> Vec<AttentionCase> {
    let case = |heads, lengths: &[(usize, usize)], mask| AttentionCase {
        heads,
        sequences: lengths
            .iter()
            .map(|&(cached, new)| Sequence { cached, new })
            .collect(),
        soft_cap: None,
        mask,
        n_shown: lengths.iter().map(|&(_, new)| new).sum(),
    };
    let mut cases = Vec::new();
    for heads in HEADS {
        cases.extend(N_ROWS.map(|n_rows| case(heads, &[(0, n_rows)], Mask::Causal)));
        // A page exactly full, one token more, and a context of many pages.
        cases.push(case(heads, &[(31, 1)], Mask::Causal));
        cases.push(case(heads, &[(32, 1)], Mask::Causal));
        cases.push(case(heads, &[(500, 9)], Mask::Causal));
        // Both sides of what is decoded, and of the borders of 256 positions.
        cases.push(case(heads, &[(3, 16), (1, 17)], Mask::Causal));
        let borders = [(255, 1), (256, 1), (511, 2), (250, 17)];
        cases.push(case(heads, &borders, Mask::Causal));
        let several = [(0, 5), (70, 1), (33, 31), (200, 1)];
        cases.push(case(heads, &several, Mask::Causal));
        // Windows of one token, less than a page, a page, and more than the context.
        for window in [1, 5, 32, 33, 1000] {
            cases.push(case(heads, &several, Mask::Window(window)));
        }
        cases.push(AttentionCase {
            soft_cap: Some(1.5),
            ..case(heads, &several, Mask::Window(40))
        });
        // Blocks less than a page, beside its borders, and more than the context.
        for block in [4, 33, 1000] {
            cases.push(case(heads, &several, Mask::BlockCausal(block)));
        }
    }
    // Long contexts of few rows, and of more than are decoded.
    let heads = heads(12, 2, 128);
    cases.push(case(heads, &[(1500, 3), (0, 1)], Mask::Causal));
    cases.push(case(heads, &[(1600, 1)], Mask::Window(700)));
    cases.push(case(heads, &[(1000, 20)], Mask::Causal));
    cases
}

impl AttentionCase {
    /// Positions that the rows attend to, all rows together.
    fn n_scores(&self) -> usize {
        let seen = |s: &Sequence| -> usize {
            let stored = s.cached + s.new;
            let positions = s.cached..stored;
            let seen = positions.map(|position| self.mask.visible(position, stored).len());
            seen.sum()
        };
        self.sequences.iter().map(seen).sum()
    }

    /// Positions that any row of a sequence attends to.
    fn attended(&self, s: &Sequence) -> usize {
        let stored = s.cached + s.new;
        stored - self.mask.visible(s.cached, stored).start
    }
}

impl<B: Backend> Case<B> for AttentionCase {
    fn n_rows(&self) -> usize {
        self.n_shown
    }

    /// Rows of which one is shown keep what they see, the rest of their block.
    fn first_rows(&self, n_rows: usize) -> Box<dyn Case<B>> {
        let mut sequences = sequences::first_rows(&self.sequences, n_rows);
        if let Mask::BlockCausal(block) = self.mask {
            for (first, whole) in sequences.iter_mut().zip(&self.sequences) {
                let end = (first.cached + first.new).next_multiple_of(block);
                first.new = whole.new.min(end - first.cached);
            }
        }
        Box::new(Self {
            sequences,
            n_shown: n_rows,
            ..self.clone()
        })
    }

    fn tolerance(&self, backend: &B) -> Tolerance {
        sequences::tolerance(backend, 2.0)
    }

    fn cost(&self) -> Cost {
        let cached: usize = self.sequences.iter().map(|s| self.attended(s)).sum();
        let outputs = sequences::n_rows(&self.sequences) * self.heads.q_width();
        let kv_width = 2 * self.heads.n_kv_heads * self.heads.head_dim;
        Cost {
            bytes: size_of::<f32>() * (2 * outputs + cached * kv_width),
            flops: 4 * self.n_scores() * self.heads.q_width(),
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let mut shared = sequences::Arguments::new(backend, self.heads, &self.sequences)?;
        shared.append(backend, self.heads)?;
        let out = shared.batch.n_rows() * self.heads.q_width();
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            shared,
            out: backend.buffer(out)?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        let heads = self.case.heads;
        backend.attention(Attention {
            qkv: &self.shared.qkv,
            batch: &self.shared.batch,
            kv: &self.shared.kv,
            layer: LAYER,
            n_heads: heads.n_heads,
            n_kv_heads: heads.n_kv_heads,
            head_dim: heads.head_dim,
            // Twice the usual: random queries and keys agree less than trained ones.
            scale: 2.0 / (heads.head_dim as f32).sqrt(),
            soft_cap: self.case.soft_cap,
            mask: self.case.mask,
            out: &mut self.out,
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(
            backend,
            &self.out,
            self.case.n_shown * self.case.heads.q_width(),
        )
    }
}
