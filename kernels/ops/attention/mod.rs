//! `attention`: softmax attention of each row over the cached keys and values of its sequence.
//!
//! With `t` the row's position and query head `h` reading key/value head
//! `h / (n_heads / n_kv_heads)`:
//!
//! ```text
//! s[p]  = scale · q·k[p]         (soft_cap: s ← c · tanh(s / c))
//! p runs over the positions that the mask allows ([`Mask`])
//! out   = Σ_p softmax(s)[p] · v[p]
//! ```
//!
//! The sum over positions runs in blocks whose borders are multiples of [`PAGE_TOKENS`], merged
//! in order by the online softmax (Milakov & Gimelshein 2018): the same for prefill and decode.
//!
//! [`PAGE_TOKENS`]: crate::backend::PAGE_TOKENS

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "cuda")]
pub(crate) mod hopper;
pub(crate) mod reference;

use std::ops::Range;

use crate::backend::{Backend, Batch};
use crate::error::Result;

use super::batch::{self, Heads};
use super::{check_room, shape_error};

/// The operation's name in errors and in the registry.
pub const OP: &str = "attention";

/// Which positions a row may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and everything before it.
    Causal,
    /// Itself and the `n − 1` positions before it.
    Window(usize),
    /// All up to the end of its own block, where blocks of `n` positions begin at 0: block
    /// diffusion (Arriola et al. 2025) refines a block whose rows see each other. Of what the
    /// sequence has not stored yet a row sees nothing.
    BlockCausal(usize),
}

impl Mask {
    /// The positions that the row at `position` sees, of a sequence with `stored` positions.
    pub fn visible(self, position: usize, stored: usize) -> Range<usize> {
        let end = position + 1;
        match self {
            Self::Causal => 0..end,
            Self::Window(n) => end.saturating_sub(n)..end,
            Self::BlockCausal(n) => 0..(position / n + 1).saturating_mul(n).min(stored),
        }
    }
}

/// Arguments of [`Backend::attention`].
pub struct Attention<'a, B: Backend + ?Sized> {
    /// `[n_rows, (n_heads + 2 n_kv_heads) · head_dim]` after [`Backend::rope_append`] (see
    /// [`Backend::attend`] for both at once); the
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

impl<B: Backend + ?Sized> Attention<'_, B> {
    /// Checks the shapes, the spans and the pages they name.
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
        batch::check(OP, self.batch, self.kv, &heads)?;
        if let Mask::Window(0) | Mask::BlockCausal(0) = self.mask {
            let detail = "a window or block of 0 positions shows a row nothing";
            return Err(shape_error(OP, detail.into()));
        }
        let n_rows = self.batch.n_rows();
        let row_heads = self.n_heads.saturating_add(2 * self.n_kv_heads);
        check_room(OP, "qkv", self.qkv, &[n_rows, row_heads, self.head_dim])?;
        check_room(
            OP,
            "out",
            &*self.out,
            &[n_rows, self.n_heads, self.head_dim],
        )
    }
}
