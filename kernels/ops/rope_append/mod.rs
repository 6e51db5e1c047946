//! `rope_append`: prepares queries and keys for attention and stores keys and values.
//!
//! For each row and head: an optional RMS norm over the head (Qwen 3, Gemma 3), then rotary
//! position embedding (Su et al. 2021), with `θ_j = position · inverse_frequencies[j]`:
//!
//! ```text
//! (a, b) ← (a·cos θ_j − b·sin θ_j, b·cos θ_j + a·sin θ_j) · attention_factor
//! ```
//!
//! Queries are rotated in place; keys and values go to the page and slot of their position.

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod reference;

use crate::backend::{Backend, Batch};
use crate::error::Result;

use super::batch::{self, Heads};
use super::{check_room, shape_error};

/// The operation's name in errors and in the registry.
pub const OP: &str = "rope_append";

/// Which two elements of a head turn together. With `r` = 2 × number of frequencies:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// Elements `j` and `j + r/2` (Hugging Face weights; llama.cpp's "neox").
    Halves,
    /// Elements `2j` and `2j + 1` (the original; GGUF files of the Llama family).
    Adjacent,
}

/// Rotary embedding of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// `1 / base^(2j/r)` for each pair, after any scaling; elements beyond `2 · len` stay as
    /// they are.
    pub inverse_frequencies: Vec<f32>,
    /// Multiplies the rotated values (YaRN); 1 otherwise.
    pub attention_factor: f32,
    /// Which elements pair up.
    pub pairs: RopePairs,
}

/// Arguments of [`Backend::rope_append`].
pub struct RopeAppend<'a, B: Backend + ?Sized> {
    /// `[n_rows, (n_heads + 2 n_kv_heads) · head_dim]`: queries, keys, values.
    pub qkv: &'a mut B::Buffer,
    /// Rows, positions and block tables.
    pub batch: &'a Batch,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
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
    /// The pages to write to.
    pub kv: &'a mut B::KvCache,
    /// Which layer of the cache.
    pub layer: usize,
}

impl<B: Backend + ?Sized> RopeAppend<'_, B> {
    /// Checks the shapes, the spans, the pages they name, and that no two rows are stored in
    /// the same place.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for the first fault.
    pub fn check(&self) -> Result<()> {
        let heads = Heads {
            layer: self.layer,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        };
        batch::check(OP, self.batch, &*self.kv, &heads)?;
        batch::check_places(OP, self.batch)?;
        let row_heads = self.n_heads.saturating_add(2 * self.n_kv_heads);
        let dims = [self.batch.n_rows(), row_heads, self.head_dim];
        check_room(OP, "qkv", &*self.qkv, &dims)?;
        for (name, weight) in [("q_norm", self.q_norm), ("k_norm", self.k_norm)] {
            if let Some(weight) = weight {
                check_room(OP, name, weight, &[self.head_dim])?;
            }
        }
        let n_frequencies = self.rope.map_or(0, |rope| rope.inverse_frequencies.len());
        if n_frequencies > self.head_dim / 2 {
            let head_dim = self.head_dim;
            let detail = format!("{n_frequencies} frequencies for heads of {head_dim} elements");
            return Err(shape_error(OP, detail));
        }
        Ok(())
    }
}
