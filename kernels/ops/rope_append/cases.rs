//! The cases of `rope_append`.
//!
//! What an operation wrote to the cache can only be seen through attention: a window of one
//! token gives back the value, a causal mask shows the keys in its weights.

use super::{Rope, RopeAppend, RopePairs};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::attention::{Attention, Mask};
use crate::ops::registry::sequences::{self, LAYER};
use crate::ops::registry::{
    Case, Cost, Heads, N_ROWS, Prepared, Random, Sequence, Tolerance, fetch,
};

/// A layer's heads, how they are rotated, and the tokens.
#[derive(Clone, Debug)]
pub struct RopeAppendCase {
    /// Heads of the layer.
    pub heads: Heads,
    /// Sequences of the batch.
    pub sequences: Vec<Sequence>,
    /// Whether queries and keys are normalised.
    pub norm: bool,
    /// The rotation.
    pub rotation: Option<Rotation>,
}

/// The usual rotation, of base 10000.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Pairs that turn; elements of a head beyond them stay as they are.
    pub n_pairs: usize,
    /// Which elements pair up.
    pub pairs: RopePairs,
    /// Multiplies the rotated values.
    pub attention_factor: f32,
}

struct Arguments<B: Backend> {
    case: RopeAppendCase,
    shared: sequences::Arguments<B>,
    norms: Option<(B::Buffer, B::Buffer)>,
    rope: Option<Rope>,
    attended: B::Buffer,
}

impl Rotation {
    pub(crate) fn rope(self) -> Rope {
        let frequency = |j| 10_000_f32.powf(-(j as f32) / self.n_pairs as f32);
        Rope {
            inverse_frequencies: (0..self.n_pairs).map(frequency).collect(),
            attention_factor: self.attention_factor,
            pairs: self.pairs,
        }
    }
}

pub(crate) fn all() -> Vec<RopeAppendCase> {
    let heads = |n_heads, n_kv_heads, head_dim| Heads {
        n_heads,
        n_kv_heads,
        head_dim,
    };
    let case = |heads, lengths: &[(usize, usize)], norm, rotation| RopeAppendCase {
        heads,
        sequences: lengths
            .iter()
            .map(|&(cached, new)| Sequence { cached, new })
            .collect(),
        norm,
        rotation,
    };
    let rotate = |n_pairs, pairs, attention_factor| {
        Some(Rotation {
            n_pairs,
            pairs,
            attention_factor,
        })
    };
    let (halves, adjacent) = (RopePairs::Halves, RopePairs::Adjacent);
    let mut cases = vec![
        case(heads(1, 1, 16), &[(0, 1)], true, rotate(8, adjacent, 1.0)),
        case(heads(2, 1, 80), &[(3, 9)], false, rotate(16, halves, 1.0)),
        case(heads(2, 1, 80), &[(3, 9)], false, rotate(16, adjacent, 1.0)),
        case(heads(6, 2, 128), &[(30, 9)], false, rotate(64, halves, 1.2)),
    ];
    let several = [(0, 5), (31, 2), (600, 1)];
    for (norm, rotation) in [
        (false, None),
        (false, rotate(32, halves, 1.0)),
        (false, rotate(32, adjacent, 1.0)),
        (true, rotate(32, halves, 1.0)),
    ] {
        let heads = heads(14, 2, 64);
        cases.extend(N_ROWS.map(|n_rows| case(heads, &[(0, n_rows)], norm, rotation)));
        cases.push(case(heads, &several, norm, rotation));
    }
    cases
}

impl<B: Backend> Case<B> for RopeAppendCase {
    fn n_rows(&self) -> usize {
        sequences::n_rows(&self.sequences)
    }

    fn first_rows(&self, n_rows: usize) -> Box<dyn Case<B>> {
        Box::new(Self {
            sequences: sequences::first_rows(&self.sequences, n_rows),
            ..self.clone()
        })
    }

    fn tolerance(&self, backend: &B) -> Tolerance {
        sequences::tolerance(backend, 1.0)
    }

    fn cost(&self) -> Cost {
        let values = sequences::n_rows(&self.sequences) * self.heads.qkv_width();
        Cost {
            bytes: size_of::<f32>() * 2 * values,
            flops: 3 * values,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let shared = sequences::Arguments::new(backend, self.heads, &self.sequences)?;
        let norm = |seed| backend.upload(&Random::new(seed).normal(self.heads.head_dim, 1.0));
        let attended = shared.batch.n_rows() * self.heads.q_width();
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            shared,
            norms: self
                .norm
                .then(|| Result::<_>::Ok((norm(11)?, norm(12)?)))
                .transpose()?,
            rope: self.rotation.map(Rotation::rope),
            attended: backend.buffer(attended)?,
        }))
    }
}

impl<B: Backend> Arguments<B> {
    fn attend(&mut self, backend: &B, mask: Mask) -> Result<Vec<f32>> {
        let heads = self.case.heads;
        backend.attention(Attention {
            qkv: &self.shared.qkv,
            batch: &self.shared.batch,
            kv: &self.shared.kv,
            layer: LAYER,
            n_heads: heads.n_heads,
            n_kv_heads: heads.n_kv_heads,
            head_dim: heads.head_dim,
            scale: (heads.head_dim as f32).sqrt().recip(),
            soft_cap: None,
            mask,
            out: &mut self.attended,
        })?;
        let len = self.shared.batch.n_rows() * heads.q_width();
        fetch(backend, &self.attended, len)
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        let heads = self.case.heads;
        backend.rope_append(RopeAppend {
            qkv: &mut self.shared.qkv,
            batch: &self.shared.batch,
            n_heads: heads.n_heads,
            n_kv_heads: heads.n_kv_heads,
            head_dim: heads.head_dim,
            q_norm: self.norms.as_ref().map(|norms| &norms.0),
            k_norm: self.norms.as_ref().map(|norms| &norms.1),
            epsilon: 1e-6,
            rope: self.rope.as_ref(),
            kv: &mut self.shared.kv,
            layer: LAYER,
        })
    }

    /// `[n_rows, 3 · q_width]`: queries, values as heads see them, attention.
    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        let (q_width, qkv_width) = (self.case.heads.q_width(), self.case.heads.qkv_width());
        let n_rows = self.shared.batch.n_rows();
        let qkv = fetch(backend, &self.shared.qkv, n_rows * qkv_width)?;
        let values = self.attend(backend, Mask::Window(1))?;
        let attended = self.attend(backend, Mask::Causal)?;
        let mut outputs = Vec::with_capacity(3 * n_rows * q_width);
        for row in 0..n_rows {
            outputs.extend_from_slice(&qkv[row * qkv_width..][..q_width]);
            outputs.extend_from_slice(&values[row * q_width..][..q_width]);
            outputs.extend_from_slice(&attended[row * q_width..][..q_width]);
        }
        Ok(outputs)
    }
}
