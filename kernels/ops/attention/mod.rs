//! `attention`: softmax attention of each row over the cached keys and values of its sequence.
//!
//! With `t` the row's position and query head `h` reading key/value head
//! `h / (n_heads / n_kv_heads)`:
//!
//! ```text
//! s[p]  = scale · q·k[p]         (soft_cap: s ← c · tanh(s / c))
//! p runs over the positions the mask allows: t − window < p ≤ t
//! out   = Σ_p softmax(s)[p] · v[p]
//! ```
//!
//! The sum over positions runs in blocks whose borders are multiples of [`PAGE_TOKENS`], merged
//! in order by the online softmax (Milakov & Gimelshein 2018): the same for prefill and decode.
//!
//! [`PAGE_TOKENS`]: crate::backend::PAGE_TOKENS

pub(crate) mod reference;

use crate::backend::{Backend, Batch};

/// Which earlier positions a row may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and everything before it.
    Causal,
    /// Itself and the `n − 1` positions before it.
    Window(usize),
}

/// Arguments of [`Backend::attention`].
pub struct Attention<'a, B: Backend + ?Sized> {
    /// `[n_rows, (n_heads + 2 n_kv_heads) · head_dim]` after [`Backend::rope_append`]; the
    /// queries are the first `n_heads · head_dim` columns.
    pub qkv: &'a B::Buffer,
    /// Rows, positions and block tables.
    pub batch: &'a Batch,
    /// The pages to read.
    pub kv: &'a B::KvCache,
    /// Which layer of the cache.
    pub layer: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements a head.
    pub head_dim: usize,
    /// What scores are multiplied by, mostly `1/√head_dim`.
    pub scale: f32,
    /// Bound of the scores (Gemma 2).
    pub soft_cap: Option<f32>,
    /// Which positions a row sees.
    pub mask: Mask,
    /// `[n_rows, n_heads · head_dim]`.
    pub out: &'a mut B::Buffer,
}
