//! `moe_combine`: what the experts of a row made of it, added up with their weights.
//!
//! ```text
//! y[r, i]   = Σ_slot weights[r, slot] · x[place(r, slot), i]      slot by slot
//! out[r, i] = y[r, i]                       (+ out[r, i] where `accumulate`)
//! ```
//!
//! Weights and places are [`moe_route`](super::moe_route)'s.

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod reference;

use super::{check_room, shape_error};
use crate::backend::{Backend, RoutesArray};
use crate::error::Result;

/// The operation's name in errors and in the registry.
pub const OP: &str = "moe_combine";

/// Arguments of [`Backend::moe_combine`].
pub struct MoeCombine<'a, B: Backend + ?Sized> {
    /// `[n_rows · top_k, width]`: a row for each place.
    pub x: &'a B::Buffer,
    /// Where the rows went.
    pub routes: &'a B::Routes,
    /// Rows, as many as were routed.
    pub n_rows: usize,
    /// Row length.
    pub width: usize,
    /// Adds to `out` instead of overwriting it: the residual connection, or a shared expert.
    pub accumulate: bool,
    /// `[n_rows, width]`.
    pub out: &'a mut B::Buffer,
}

impl<B: Backend + ?Sized> MoeCombine<'_, B> {
    /// Checks the shapes.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an array that is too short, rows of no
    /// elements, or more rows than the routes have room for.
    pub fn check(&self) -> Result<()> {
        if self.width == 0 {
            return Err(shape_error(OP, "a row has no elements".into()));
        }
        let shape = self.routes.shape();
        if self.n_rows > shape.n_rows {
            let detail = format!("{} rows, and routes of {}", self.n_rows, shape.n_rows);
            return Err(shape_error(OP, detail));
        }
        check_room(OP, "x", self.x, &[self.n_rows, shape.top_k, self.width])?;
        check_room(OP, "out", &*self.out, &[self.n_rows, self.width])
    }
}
