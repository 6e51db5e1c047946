//! `moe_matmul`: each row times the matrices of the experts it goes to.
//!
//! ```text
//! out[p, o] = Σ_i x[p, i] · W[expert(p), o, i] + bias[expert(p), o]
//! ```
//!
//! A place `p` is a row in one of its slots; places are grouped by expert, as
//! [`moe_route`](super::moe_route) has it. The first matrices of a layer take the rows of the
//! batch, the later ones what came out at each place; [`moe_combine`](super::moe_combine) adds
//! the places of a row up.
//!
//! The order of a sum depends on the matrix alone, as in [`matmul`](super::matmul).

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod reference;

use super::{check_room, shape_error};
use crate::backend::{Backend, Dimensions, ExpertStack, MatrixSource, RoutesArray};
use crate::error::{Error, Result};

/// The operation's name in errors and in the registry.
pub const OP: &str = "moe_matmul";

/// What `x` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The rows of the batch.
    Rows,
    /// A row for each place.
    Places,
}

/// Arguments of [`Backend::moe_matmul`].
pub struct MoeMatmul<'a, B: Backend + ?Sized> {
    /// `[n_rows, cols]`, or of places `[n_rows · top_k, cols]`.
    pub x: &'a B::Buffer,
    /// Which of the two.
    pub input: Input,
    /// The experts' matrices, each `[rows, cols]`.
    pub experts: &'a B::Experts,
    /// `[n_experts, rows]`, if the layers have biases.
    pub bias: Option<&'a B::Buffer>,
    /// Where the rows go.
    pub routes: &'a B::Routes,
    /// Rows, as many as were routed.
    pub n_rows: usize,
    /// `[n_rows · top_k, rows]`: a row for each place.
    pub out: &'a mut B::Buffer,
}

impl<B: Backend + ?Sized> MoeMatmul<'_, B> {
    /// Checks the shapes.
    ///
    /// # Errors
    /// [`Error::Shape`] for an array too small for the matrices and the
    /// rows, or routes to another number of experts.
    pub fn check(&self) -> Result<()> {
        let (rows, cols) = (self.experts.rows(), self.experts.cols());
        let shape = self.routes.shape();
        if shape.n_experts != self.experts.n_experts() || self.n_rows > shape.n_rows {
            let detail = format!(
                "routes of {} rows to {} experts are none of {} rows to {}",
                shape.n_rows,
                shape.n_experts,
                self.n_rows,
                self.experts.n_experts()
            );
            return Err(shape_error(OP, detail));
        }
        let in_rows = match self.input {
            Input::Rows => 1,
            Input::Places => shape.top_k,
        };
        check_room(OP, "x", self.x, &[self.n_rows, in_rows, cols])?;
        if let Some(bias) = self.bias {
            check_room(OP, "bias", bias, &[shape.n_experts, rows])?;
        }
        check_room(OP, "out", &*self.out, &[self.n_rows, shape.top_k, rows])
    }
}

/// The experts of the backends without a device: a matrix for each.
pub struct Experts<M> {
    pub(crate) matrices: Vec<M>,
}

impl<M: Dimensions> Experts<M> {
    /// Makes the matrix of each expert.
    ///
    /// # Errors
    /// [`Error::Weight`] for an expert unlike the first; those of `matrix`; [`Error::Parameter`]
    /// for no experts at all.
    pub(crate) fn new(
        experts: &[Vec<MatrixSource<'_>>],
        matrix: impl Fn(&[MatrixSource<'_>]) -> Result<M>,
    ) -> Result<Self> {
        check_alike(experts)?;
        let matrices = experts.iter().map(|parts| matrix(parts));
        Ok(Self {
            matrices: matrices.collect::<Result<_>>()?,
        })
    }
}

impl<M: Dimensions> ExpertStack for Experts<M> {
    fn n_experts(&self) -> usize {
        self.matrices.len()
    }

    fn rows(&self) -> usize {
        self.matrices.first().map_or(0, M::rows)
    }

    fn cols(&self) -> usize {
        self.matrices.first().map_or(0, M::cols)
    }
}

/// That there are experts, all with parts of the same shapes and formats.
pub(crate) fn check_alike(experts: &[Vec<MatrixSource<'_>>]) -> Result<()> {
    let Some(first) = experts.first() else {
        return Err(Error::Parameter("a mixture has no experts".into()));
    };
    let shape = |source: &MatrixSource<'_>| (source.format, source.rows, source.cols);
    for (index, parts) in experts.iter().enumerate() {
        if !parts.iter().map(shape).eq(first.iter().map(shape)) {
            return Err(Error::Weight {
                tensor: parts.first().map_or("?", |part| part.name).into(),
                detail: format!("expert {index} has other shapes or formats than the first"),
            });
        }
    }
    Ok(())
}
