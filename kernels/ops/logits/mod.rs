//! `logits`: the vocabulary's scores for chosen rows.
//!
//! ```text
//! out[j, v] = scale · x[rows[j], :] · W[v, :]      (soft_cap: y ← c · tanh(y / c))
//! ```

use crate::backend::Backend;

/// Arguments of [`Backend::logits`].
pub struct Logits<'a, B: Backend + ?Sized> {
    /// `[n_rows, width]`, after the final norm.
    pub x: &'a B::Buffer,
    /// Rows of `x` whose logits are wanted.
    pub rows: &'a [usize],
    /// The output head `[vocab, width]`.
    pub weight: &'a B::Matrix,
    /// Multiplies every logit; 1 for most families.
    pub scale: f32,
    /// Bound of the logits (Gemma 2).
    pub soft_cap: Option<f32>,
    /// `[rows.len(), vocab]`.
    pub out: &'a mut B::Buffer,
}
