//! `matmul`: a linear layer over every row of a batch.
//!
//! ```text
//! y[r, o]   = Σ_i x[r, i] · W[o, i] + bias[o]
//! out[r, o] = y[r, o]                       (+ out[r, o] where `accumulate`)
//! ```
//!
//! The order of the sum over `i` depends on the matrix alone, so a row's bits are the same for
//! any number of rows beside it.

pub mod cases;
pub(crate) mod cpu;
pub(crate) mod reference;

use super::check_room;
use crate::backend::{Backend, Dimensions};
use crate::error::Result;

/// The operation's name in errors and in the registry.
pub const OP: &str = "matmul";

/// Arguments of [`Backend::matmul`].
pub struct Matmul<'a, B: Backend + ?Sized> {
    /// `[n_rows, cols]`.
    pub x: &'a B::Buffer,
    /// `[rows, cols]`, possibly several matrices stacked.
    pub weight: &'a B::Matrix,
    /// `[rows]`, if the layer has a bias.
    pub bias: Option<&'a B::Buffer>,
    /// Tokens.
    pub n_rows: usize,
    /// Adds to `out` instead of overwriting it: the residual connection.
    pub accumulate: bool,
    /// `[n_rows, rows]`.
    pub out: &'a mut B::Buffer,
}

impl<B: Backend + ?Sized> Matmul<'_, B> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an array too small for the matrix and the rows.
    pub fn check(&self) -> Result<()> {
        let (rows, cols) = (self.weight.rows(), self.weight.cols());
        check_room(OP, "x", self.x, &[self.n_rows, cols])?;
        if let Some(bias) = self.bias {
            check_room(OP, "bias", bias, &[rows])?;
        }
        check_room(OP, "out", &*self.out, &[self.n_rows, rows])
    }
}
