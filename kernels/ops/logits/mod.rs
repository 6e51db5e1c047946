//! `logits`: the vocabulary's scores for chosen rows.
//!
//! ```text
//! out[j, v] = scale · x[rows[j], :] · W[v, :]      (soft_cap: y ← c · tanh(y / c))
//! ```

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod reference;

use super::check_room;
use super::matmul::check_soft_cap;
use crate::backend::{Backend, Dimensions};
use crate::error::Result;

/// The operation's name in errors and in the registry.
pub const OP: &str = "logits";

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

impl<B: Backend + ?Sized> Logits<'_, B> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an array too small for the head and the rows,
    /// and for a soft cap that is not positive.
    pub fn check(&self) -> Result<()> {
        let (vocab, width) = (self.weight.rows(), self.weight.cols());
        let n_rows = self
            .rows
            .iter()
            .max()
            .map_or(0, |row| row.saturating_add(1));
        check_room(OP, "x", self.x, &[n_rows, width])?;
        check_room(OP, "out", &*self.out, &[self.rows.len(), vocab])?;
        check_soft_cap(OP, self.soft_cap)
    }
}
