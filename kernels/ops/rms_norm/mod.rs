//! `rms_norm`: root-mean-square normalisation (Zhang & Sennrich 2019).
//!
//! ```text
//! y[r, i]   = x[r, i] / sqrt(mean_j x[r, j]² + epsilon) · weight[i]
//! out[r, i] = y[r, i]                       (+ out[r, i] where `accumulate`)
//! ```

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod reference;

use crate::backend::Backend;
use crate::error::Result;

use super::{check_room, shape_error};

/// The operation's name in errors and in the registry.
pub const OP: &str = "rms_norm";

/// Arguments of [`Backend::rms_norm`].
pub struct RmsNorm<'a, B: Backend + ?Sized> {
    /// `[n_rows, width]`.
    pub x: &'a B::Buffer,
    /// `[width]`; a family whose formula is `1 + w` has the one added when it is loaded.
    pub weight: &'a B::Buffer,
    /// Rows.
    pub n_rows: usize,
    /// Row length.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Adds to `out` instead of overwriting it: the residual after a post-norm.
    pub accumulate: bool,
    /// `[n_rows, width]`.
    pub out: &'a mut B::Buffer,
}

impl<B: Backend + ?Sized> RmsNorm<'_, B> {
    /// Checks the shapes.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an array that is too short, or rows of no
    /// elements.
    pub fn check(&self) -> Result<()> {
        if self.width == 0 {
            return Err(shape_error(OP, "a row has no elements".into()));
        }
        check_room(OP, "weight", self.weight, &[self.width])?;
        check_room(OP, "x", self.x, &[self.n_rows, self.width])?;
        check_room(OP, "out", &*self.out, &[self.n_rows, self.width])
    }
}
