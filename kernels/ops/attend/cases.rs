//! The cases of `attend`: those of decoding, where a GPU has one launch, and some that it takes
//! apart.
//!
//! What was written to the cache is seen through attention, as in the cases of `rope_append`.

use super::Attend;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::attention::{Attention, Mask};
use crate::ops::registry::sequences::{self, LAYER};
use crate::ops::registry::{Case, Cost, Heads, Prepared, Random, Sequence, Tolerance, fetch};
use crate::ops::rope_append::cases::Rotation;
use crate::ops::rope_append::{Rope, RopePairs};

/// A layer's heads, how they are prepared, and the tokens it attends with and to.
#[derive(Clone, Debug)]
pub struct AttendCase {
    /// Heads of the layer.
    pub heads: Heads,
    /// Whether queries and keys are normalised.
    pub norm: bool,
    /// The rotation.
    pub rotation: Option<Rotation>,
    /// Sequences of the batch.
    pub sequences: Vec<Sequence>,
    /// Bound of the scores.
    pub soft_cap: Option<f32>,
    /// Which positions a row sees.
    pub mask: Mask,
}

/// The arguments of a case on a backend.
pub struct AttendArguments<B: Backend> {
    case: AttendCase,
    shared: sequences::Arguments<B>,
    norms: Option<(B::Buffer, B::Buffer)>,
    rope: Option<Rope>,
    out: B::Buffer,
    probe: B::Buffer,
    probed: B::Buffer,
}

const HALVES: RopePairs = RopePairs::Halves;
const ADJACENT: RopePairs = RopePairs::Adjacent;

/// A case of a causal mask over `(cached, new)` tokens.
fn layer(
    (n_heads, n_kv_heads, head_dim): (usize, usize, usize),
    norm: bool,
    rotation: Option<(usize, RopePairs)>,
    lengths: &[(usize, usize)],
) -> AttendCase {
    let sequences = lengths.iter();
    AttendCase {
        heads: Heads {
            n_heads,
            n_kv_heads,
            head_dim,
        },
        norm,
        rotation: rotation.map(|(n_pairs, pairs)| Rotation {
            n_pairs,
            pairs,
            attention_factor: 1.0,
        }),
        sequences: (sequences.map(|&(cached, new)| Sequence { cached, new })).collect(),
        soft_cap: None,
        mask: Mask::Causal,
    }
}

/// Heads of every stored width, groups of one to a block's lines, and every way to prepare them.
pub fn all() -> Vec<AttendCase> {
    let mut cases = Vec::new();
    for (heads, norm, rotation) in [
        ((1, 1, 16), true, Some((8, ADJACENT))),
        ((3, 3, 24), true, Some((3, HALVES))),
        ((14, 2, 64), false, Some((32, ADJACENT))),
        ((8, 1, 64), false, None),
        ((6, 6, 80), false, Some((16, HALVES))),
        ((4, 2, 96), true, Some((48, HALVES))),
        ((12, 2, 128), true, Some((64, HALVES))),
        ((2, 2, 192), false, Some((31, ADJACENT))),
        ((4, 1, 256), true, Some((128, HALVES))),
    ] {
        let case = |lengths: &[(usize, usize)]| layer(heads, norm, rotation, lengths);
        // From nothing to more pages than are copied ahead, and both sides of borders of pages and
        // of splits.
        let lengths = [0, 31, 32, 70, 150, 255, 256, 511].map(|cached| (cached, 1));
        cases.push(case(&lengths));
        cases.push(AttendCase {
            soft_cap: Some(1.5),
            ..case(&[(250, 1), (3, 1)])
        });
        for mask in [Mask::Window(1), Mask::Window(40), Mask::BlockCausal(33)] {
            cases.push(AttendCase {
                mask,
                ..case(&[(27, 1), (300, 1), (256, 1)])
            });
        }
    }
    // More lines than the narrow kernels have, and than one block of the wide ones.
    for (heads, rotation) in [
        ((24, 1, 32), Some((16, HALVES))),
        ((71, 1, 64), Some((32, HALVES))),
        ((20, 1, 80), Some((37, HALVES))),
        ((34, 2, 96), Some((48, ADJACENT))),
        ((17, 1, 128), Some((32, HALVES))),
        ((40, 1, 256), Some((128, ADJACENT))),
    ] {
        cases.push(layer(heads, true, rotation, &[(255, 1), (300, 1), (2, 1)]));
    }
    // The sequences of a large batch.
    let lengths: Vec<_> = (0..64).map(|i| (i * 5, 1)).collect();
    let mut large = layer((6, 2, 64), true, Some((32, HALVES)), &lengths);
    large.rotation = large.rotation.map(|rotation| Rotation {
        attention_factor: 1.2,
        ..rotation
    });
    cases.push(large);
    // Rows of a sequence that see each other, few and many.
    for lengths in [[(70, 5), (255, 1)], [(3, 17), (40, 1)]] {
        cases.push(layer((14, 2, 64), true, Some((32, HALVES)), &lengths));
    }
    cases
}

impl AttendCase {
    /// The arguments on a backend.
    ///
    /// # Errors
    /// The backend's, if it cannot hold them.
    pub fn arguments<B: Backend>(&self, backend: &B) -> Result<AttendArguments<B>> {
        let heads = self.heads;
        let shared = sequences::Arguments::new(backend, heads, &self.sequences)?;
        let values = |seed, len| backend.upload(&Random::new(seed).normal(len, 1.0));
        let norms = || Result::Ok((values(11, heads.head_dim)?, values(12, heads.head_dim)?));
        let n_rows = shared.batch.n_rows();
        Ok(AttendArguments {
            norms: self.norm.then(norms).transpose()?,
            rope: self.rotation.map(Rotation::rope),
            out: backend.buffer(n_rows * heads.q_width())?,
            probe: values(13, n_rows * heads.qkv_width())?,
            probed: backend.buffer(n_rows * heads.q_width())?,
            case: self.clone(),
            shared,
        })
    }
}

impl<B: Backend> Case<B> for AttendCase {
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
        let n_rows = sequences::n_rows(&self.sequences);
        let (mut cached, mut n_scores) = (0, 0);
        for s in &self.sequences {
            let stored = s.cached + s.new;
            let seen = |position| self.mask.visible(position, stored);
            cached += s.cached - seen(s.cached).start.min(s.cached);
            n_scores += (s.cached..stored).map(|p| seen(p).len()).sum::<usize>();
        }
        let kv_width = 2 * self.heads.n_kv_heads * self.heads.head_dim;
        let row = self.heads.qkv_width() + kv_width + self.heads.q_width();
        Cost {
            bytes: size_of::<f32>() * (n_rows * row + cached * kv_width),
            flops: 4 * n_scores * self.heads.q_width() + 3 * n_rows * self.heads.qkv_width(),
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        Ok(Box::new(self.arguments(backend)?))
    }
}

impl<B: Backend> AttendArguments<B> {
    /// The operation.
    pub fn op(&mut self) -> Attend<'_, B> {
        let heads = self.case.heads;
        Attend {
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
            scale: (heads.head_dim as f32).sqrt().recip(),
            soft_cap: self.case.soft_cap,
            mask: self.case.mask,
            out: &mut self.out,
        }
    }

    /// The cache.
    pub fn kv(&self) -> &B::KvCache {
        &self.shared.kv
    }

    /// What queries that have nothing to do with the case get from the cache.
    fn probe(&mut self, backend: &B, mask: Mask) -> Result<Vec<f32>> {
        let heads = self.case.heads;
        backend.attention(Attention {
            qkv: &self.probe,
            batch: &self.shared.batch,
            kv: &self.shared.kv,
            layer: LAYER,
            n_heads: heads.n_heads,
            n_kv_heads: heads.n_kv_heads,
            head_dim: heads.head_dim,
            scale: (heads.head_dim as f32).sqrt().recip(),
            soft_cap: None,
            mask,
            out: &mut self.probed,
        })?;
        let len = self.shared.batch.n_rows() * heads.q_width();
        fetch(backend, &self.probed, len)
    }
}

impl<B: Backend> Prepared<B> for AttendArguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.attend(self.op())
    }

    /// `[n_rows, 3 · q_width]`: attention, values as heads see them, attention by the probe.
    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        let q_width = self.case.heads.q_width();
        let n_rows = self.shared.batch.n_rows();
        let out = fetch(backend, &self.out, n_rows * q_width)?;
        let values = self.probe(backend, Mask::Window(1))?;
        let keys = self.probe(backend, Mask::Causal)?;
        let mut outputs = Vec::with_capacity(3 * n_rows * q_width);
        for row in 0..n_rows {
            for part in [&out, &values, &keys] {
                outputs.extend_from_slice(&part[row * q_width..][..q_width]);
            }
        }
        Ok(outputs)
    }
}
