//! `attend`: [`rope_append`](super::rope_append), then [`attention`](super::attention): what stands
//! between the first two products of a layer.
//!
//! The bits are those of the two operations one after the other, which is also how a backend does
//! it that knows no better, the reference first of all. A GPU has one launch for rows that are
//! decoded.

pub mod cases;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use super::attention::{Attention, Mask};
use super::rope_append::{Rope, RopeAppend};
use crate::backend::{Backend, Batch};
use crate::error::Result;

/// The operation's name in the registry.
pub const OP: &str = "attend";

/// Arguments of [`Backend::attend`]: those of [`RopeAppend`] and of [`Attention`].
pub struct Attend<'a, B: Backend + ?Sized> {
    /// `[n_rows, (n_heads + 2 n_kv_heads) · head_dim]`: queries, keys, values. Afterwards their
    /// content has no meaning.
    pub qkv: &'a mut B::Buffer,
    /// Rows, positions and block tables.
    pub batch: &'a Batch,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements a head.
    pub head_dim: usize,
    /// `[head_dim]` weight of the norm over each query head.
    pub q_norm: Option<&'a B::Buffer>,
    /// `[head_dim]` weight of the norm over each key head.
    pub k_norm: Option<&'a B::Buffer>,
    /// Epsilon of both norms.
    pub epsilon: f32,
    /// The rotation; `None` for a layer without positions.
    pub rope: Option<&'a Rope>,
    /// The pages to write to and to read.
    pub kv: &'a mut B::KvCache,
    /// Which layer of the cache.
    pub layer: usize,
    /// What scores are multiplied by, mostly `1/√head_dim`.
    pub scale: f32,
    /// Bound of the scores (Gemma 2).
    pub soft_cap: Option<f32>,
    /// Which positions a row sees.
    pub mask: Mask,
    /// `[n_rows, n_heads · head_dim]`.
    pub out: &'a mut B::Buffer,
}

impl<B: Backend + ?Sized> Attend<'_, B> {
    /// Checks what both operations check.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for the first fault.
    pub fn check(&mut self) -> Result<()> {
        self.rope_append().check()?;
        self.attention().check()
    }

    /// The first of the two operations.
    pub fn rope_append(&mut self) -> RopeAppend<'_, B> {
        RopeAppend {
            qkv: self.qkv,
            batch: self.batch,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            q_norm: self.q_norm,
            k_norm: self.k_norm,
            epsilon: self.epsilon,
            rope: self.rope,
            kv: self.kv,
            layer: self.layer,
        }
    }

    /// The second.
    pub fn attention(&mut self) -> Attention<'_, B> {
        Attention {
            qkv: self.qkv,
            batch: self.batch,
            kv: self.kv,
            layer: self.layer,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            scale: self.scale,
            soft_cap: self.soft_cap,
            mask: self.mask,
            out: self.out,
        }
    }
}

/// One after the other.
pub(crate) fn in_turn<B: Backend + ?Sized>(backend: &B, mut op: Attend<'_, B>) -> Result<()> {
    backend.rope_append(op.rope_append())?;
    backend.attention(op.attention())
}
