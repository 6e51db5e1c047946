//! `gated`: the gated activation of a feed-forward layer (Shazeer 2020).
//!
//! ```text
//! out[r, i] = activation(gate_up[r, i]) · gate_up[r, width + i]
//! ```

pub(crate) mod reference;

use crate::backend::Backend;

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
