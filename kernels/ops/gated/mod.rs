//! `gated`: the gated activation of a feed-forward layer (Shazeer 2020).
//!
//! ```text
//! out[r, i] = activation(gate_up[r, i]) · gate_up[r, width + i]
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
pub const OP: &str = "gated";

/// The function applied to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^−x)`.
    Silu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    GeluTanh,
}

/// Arguments of [`Backend::gated`].
pub struct Gated<'a, B: Backend + ?Sized> {
    /// `[n_rows, 2 · width]`: gate, then up.
    pub gate_up: &'a B::Buffer,
    /// Rows.
    pub n_rows: usize,
    /// Features of the inner layer.
    pub width: usize,
    /// The gate's function.
    pub activation: Activation,
    /// `[n_rows, width]`.
    pub out: &'a mut B::Buffer,
}

impl<B: Backend + ?Sized> Gated<'_, B> {
    /// Checks the shapes.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an array that is too short, or rows of no
    /// elements.
    pub fn check(&self) -> Result<()> {
        if self.width == 0 {
            return Err(shape_error(OP, "a row has no elements".into()));
        }
        check_room(OP, "gate_up", self.gate_up, &[self.n_rows, 2, self.width])?;
        check_room(OP, "out", &*self.out, &[self.n_rows, self.width])
    }
}
