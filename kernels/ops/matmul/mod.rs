//! `matmul`: a linear layer over every row of a batch.
//!
//! ```text
//! x̂[r, i]   = x[r, i], with `norm`: rms_norm(x)[r, i]
//! y[r, o]   = Σ_i x̂[r, i] · W[o, i] + bias[o]
//! z[r, o]   = y[r, o], with `soft_cap`: c · tanh(y[r, o] / c)
//! a[r, o]   = z[r, o], with `gate`: activation(z[r, o]) · z[r, rows/2 + o] for o < rows/2
//! out[r, o] = a[r, o]                       (+ out[r, o] where `accumulate`)
//! ```
//!
//! The order of the sum over `i` depends on the matrix alone, so a row's bits are the same for
//! any number of rows beside it. A gate leaves that order as it is: on a GPU it is applied where the
//! product is computed, or in a launch of its own with the same bits (weights in F32, and gates
//! whose number is no multiple of 16).

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "cuda")]
pub(crate) mod hopper;
pub(crate) mod reference;
#[cfg(feature = "cuda")]
pub(crate) mod shared;

use super::gated::Activation;
use super::{check_room, shape_error};
use crate::backend::{Backend, Dimensions};
use crate::error::Result;

/// The operation's name in errors and in the registry.
pub const OP: &str = "matmul";

/// A root-mean-square norm of the inputs, see [`rms_norm`](super::rms_norm).
pub struct Norm<'a, B: Backend + ?Sized> {
    /// `[cols]`.
    pub weight: &'a B::Buffer,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// Arguments of [`Backend::matmul`].
pub struct Matmul<'a, B: Backend + ?Sized> {
    /// `[n_rows, cols]`.
    pub x: &'a B::Buffer,
    /// `[rows, cols]`, possibly several matrices stacked.
    pub weight: &'a B::Matrix,
    /// Normalises the inputs first.
    pub norm: Option<Norm<'a, B>>,
    /// `[rows]`, if the layer has a bias.
    pub bias: Option<&'a B::Buffer>,
    /// Bound of the outputs: positive.
    pub soft_cap: Option<f32>,
    /// Takes the first half of the outputs for the gates of the second, which leaves half as
    /// many.
    pub gate: Option<Activation>,
    /// Tokens.
    pub n_rows: usize,
    /// Adds to `out` instead of overwriting it: the residual connection.
    pub accumulate: bool,
    /// `[n_rows, rows]`, or `[n_rows, rows / 2]` with a gate.
    pub out: &'a mut B::Buffer,
}

impl<'a, B: Backend + ?Sized> Matmul<'a, B> {
    /// The product alone, for the others to be added by struct update.
    pub fn new(
        x: &'a B::Buffer,
        weight: &'a B::Matrix,
        n_rows: usize,
        out: &'a mut B::Buffer,
    ) -> Self {
        Self {
            x,
            weight,
            norm: None,
            bias: None,
            soft_cap: None,
            gate: None,
            n_rows,
            accumulate: false,
            out,
        }
    }

    /// Columns of the output.
    pub fn out_width(&self) -> usize {
        match self.gate {
            Some(_) => self.weight.rows() / 2,
            None => self.weight.rows(),
        }
    }

    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an array too small for the matrix and the rows,
    /// a gate over an odd number of outputs, or a soft cap that is not positive.
    pub fn check(&self) -> Result<()> {
        let (rows, cols) = (self.weight.rows(), self.weight.cols());
        check_room(OP, "x", self.x, &[self.n_rows, cols])?;
        if let Some(norm) = &self.norm {
            check_room(OP, "the norm's weight", norm.weight, &[cols])?;
        }
        if let Some(bias) = self.bias {
            check_room(OP, "bias", bias, &[rows])?;
        }
        if self.gate.is_some() && !rows.is_multiple_of(2) {
            let detail = format!("{rows} outputs are not as many gates as gated values");
            return Err(shape_error(OP, detail));
        }
        check_soft_cap(OP, self.soft_cap)?;
        check_room(OP, "out", &*self.out, &[self.n_rows, self.out_width()])
    }
}

/// That a soft cap is positive.
pub(crate) fn check_soft_cap(op: &'static str, soft_cap: Option<f32>) -> Result<()> {
    match soft_cap {
        Some(cap) if cap.is_nan() || cap <= 0.0 => Err(shape_error(
            op,
            format!("the soft cap is {cap} and should be positive"),
        )),
        _ => Ok(()),
    }
}
