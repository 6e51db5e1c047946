//! `matmul`: a linear layer over every row of a batch.
//!
//! ```text
//! y[r, o]   = Σ_i x[r, i] · W[o, i] + bias[o]
//! out[r, o] = y[r, o]                       (+ out[r, o] where `accumulate`)
//! ```
//!
//! The order of the sum over `i` depends on the matrix alone, so a row's bits are the same for
//! any number of rows beside it.

use crate::backend::Backend;

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
