//! Sequences of random queries, keys and values, some tokens of each in the cache already.

use super::{Random, Tolerance};
use crate::backend::{Backend, Batch, KvShape, PAGE_TOKENS};
use crate::error::Result;
use crate::ops::rope_append::RopeAppend;

/// The layer that cases use; there is one below it that must stay out of the way.
pub(crate) const LAYER: usize = 1;

/// Heads of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Elements a head.
    pub head_dim: usize,
}

impl Heads {
    /// Columns of the queries.
    pub(crate) fn q_width(self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Columns of queries, keys and values.
    pub(crate) fn qkv_width(self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }
}

/// Tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    /// Tokens in the cache.
    pub cached: usize,
    /// Tokens of the batch, which follow them.
    pub new: usize,
}

/// `sequences` with no more than the first `n_rows` of their new tokens.
pub(crate) fn first_rows(sequences: &[Sequence], n_rows: usize) -> Vec<Sequence> {
    let mut left = n_rows;
    let mut shortened = sequences.to_vec();
    for sequence in &mut shortened {
        sequence.new = sequence.new.min(left);
        left -= sequence.new;
    }
    shortened.retain(|sequence| sequence.new > 0);
    shortened
}

/// New tokens of all sequences.
pub(crate) fn n_rows(sequences: &[Sequence]) -> usize {
    sequences.iter().map(|sequence| sequence.new).sum()
}

/// What outputs of attention may differ by where scores deviate by `scores`.
pub(crate) fn tolerance<B: Backend>(backend: &B, scores: f32) -> Tolerance {
    Tolerance {
        // The sums are of f32 in another order.
        deviation: backend.kv_rounding().deviation(scores).max(1e-6),
        // A score's error times a value's: a product of normal ones, whose tail is e^−x.
        largest: 12.0,
        floor: 0.0,
        reason: "queries, keys, weights and values may be rounded",
    }
}

/// The arguments that `rope_append` and `attention` share.
pub(crate) struct Arguments<B: Backend> {
    pub(crate) batch: Batch,
    pub(crate) qkv: B::Buffer,
    pub(crate) kv: B::KvCache,
}

impl<B: Backend> Arguments<B> {
    /// The new tokens of `sequences`, the others in the cache.
    pub(crate) fn new(backend: &B, heads: Heads, sequences: &[Sequence]) -> Result<Self> {
        let n_pages: usize = sequences.iter().map(n_pages).sum();
        let block_tables = block_tables(sequences, n_pages);
        let (mut cached, mut batch) = (Batch::default(), Batch::default());
        let (mut cached_qkv, mut qkv) = (Vec::new(), Vec::new());
        for (i, (sequence, table)) in sequences.iter().zip(&block_tables).enumerate() {
            let rows = |seed, n_tokens| {
                Random::new(seed + i as u64).normal(n_tokens * heads.qkv_width(), 1.0)
            };
            if sequence.cached > 0 {
                cached.push(&vec![0; sequence.cached], 0, table);
                cached_qkv.extend(rows(100, sequence.cached));
            }
            batch.push(&vec![0; sequence.new], sequence.cached, table);
            qkv.extend(rows(200, sequence.new));
        }
        let mut arguments = Self {
            batch: cached,
            qkv: backend.upload(&cached_qkv)?,
            kv: backend.kv_cache(&KvShape {
                n_pages,
                layers: vec![(heads.n_kv_heads, heads.head_dim); LAYER + 1],
            })?,
        };
        arguments.append(backend, heads)?;
        arguments.batch = batch;
        arguments.qkv = backend.upload(&qkv)?;
        Ok(arguments)
    }

    /// Stores keys and values as they are.
    pub(crate) fn append(&mut self, backend: &B, heads: Heads) -> Result<()> {
        backend.rope_append(RopeAppend {
            qkv: &mut self.qkv,
            batch: &self.batch,
            n_heads: heads.n_heads,
            n_kv_heads: heads.n_kv_heads,
            head_dim: heads.head_dim,
            q_norm: None,
            k_norm: None,
            epsilon: 1e-6,
            rope: None,
            kv: &mut self.kv,
            layer: LAYER,
        })
    }
}

fn n_pages(sequence: &Sequence) -> usize {
    (sequence.cached + sequence.new).div_ceil(PAGE_TOKENS)
}

/// Pages from the last one down, dealt to the sequences in turn.
fn block_tables(sequences: &[Sequence], n_pages_total: usize) -> Vec<Vec<u32>> {
    let mut free = (0..n_pages_total as u32).rev();
    let mut tables = vec![Vec::new(); sequences.len()];
    while free.len() > 0 {
        for (table, sequence) in tables.iter_mut().zip(sequences) {
            if table.len() < n_pages(sequence) {
                table.extend(free.next());
            }
        }
    }
    tables
}
