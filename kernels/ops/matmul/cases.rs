//! The cases of `matmul`.

use super::Matmul;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::registry::{
    Case, Cost, N_ROWS, NORMAL, Prepared, Random, Tolerance, fetch, independent_rows, random_matrix,
};
use crate::quant::Format;

/// A layer's sizes.
#[derive(Clone, Debug)]
pub struct MatmulCase {
    /// Format and rows of each matrix of the stack.
    pub parts: Vec<(Format, usize)>,
    /// Input features.
    pub cols: usize,
    /// Tokens.
    pub n_rows: usize,
    /// Whether the layer has a bias.
    pub bias: bool,
    /// Whether the result is added to what `out` holds.
    pub accumulate: bool,
}

struct Arguments<B: Backend> {
    case: MatmulCase,
    x: B::Buffer,
    weight: B::Matrix,
    bias: Option<B::Buffer>,
    out: B::Buffer,
}

/// Outputs of all parts.
fn rows(parts: &[(Format, usize)]) -> usize {
    parts.iter().map(|part| part.1).sum()
}

/// Bytes of the weights as a file holds them.
pub(crate) fn weight_bytes(parts: &[(Format, usize)], cols: usize) -> usize {
    let bytes = |&(format, rows): &(Format, usize)| rows * format.row_bytes(cols).unwrap_or(0);
    parts.iter().map(bytes).sum()
}

/// The error that comes with the least exact of `formats`.
pub(crate) fn product_tolerance(formats: impl IntoIterator<Item = Format>) -> Tolerance {
    let of_format = |format: Format| match format {
        Format::F32 | Format::F16 => (1e-6_f32, "sums of f32 products in another order"),
        // 2^-8 at most; 0.00166 of the deviation of normal values, by numpy.
        Format::Bf16 => (0.0017, "activations may be rounded to bf16"),
        // A step is the largest of 32 values over 127, and the largest of these values 2.24
        // deviations in the mean: 2.24 / 127 / √12 of one.
        _ => (
            0.0051,
            "activations may be rounded to 8 bits in groups of 32",
        ),
    };
    let errors = formats.into_iter().map(of_format);
    let worst = errors.max_by(|a, b| a.0.total_cmp(&b.0));
    let (deviation, reason) = worst.unwrap_or((0.0, "no products at all"));
    Tolerance {
        deviation,
        largest: NORMAL,
        floor: 1.0,
        reason,
    }
}

pub(crate) fn all() -> Vec<MatmulCase> {
    let case = |parts: &[(Format, usize)], cols, n_rows| MatmulCase {
        parts: parts.to_vec(),
        cols,
        n_rows,
        bias: false,
        accumulate: false,
    };
    let mut cases = vec![];
    for format in Format::ALL {
        let block = format.block_len();
        for n_rows in N_ROWS {
            cases.push(case(&[(format, 33)], 3 * block, n_rows));
        }
        // The fewest outputs and inputs, one more input than a tile has, and a common layer.
        cases.push(case(&[(format, 1)], block, 1));
        cases.push(case(&[(format, 17)], block * 257_usize.div_ceil(block), 9));
        cases.push(case(&[(format, 64)], 1536, 13));
    }
    // Queries, keys and values of different formats; bias and residual.
    let stack = [(Format::Q4K, 48), (Format::Q4K, 16), (Format::Q6K, 17)];
    for (bias, accumulate) in [(true, false), (false, true), (true, true)] {
        for n_rows in [1, 9] {
            cases.push(MatmulCase {
                bias,
                accumulate,
                ..case(&stack, 512, n_rows)
            });
            cases.push(MatmulCase {
                bias,
                accumulate,
                ..case(&[(Format::F16, 20), (Format::Q8_0, 12)], 96, n_rows)
            });
        }
    }
    cases
}

impl<B: Backend> Case<B> for MatmulCase {
    independent_rows!();

    fn tolerance(&self) -> Tolerance {
        product_tolerance(self.parts.iter().map(|part| part.0))
    }

    fn cost(&self) -> Cost {
        let rows = rows(&self.parts);
        let outputs = if self.accumulate { 2 * rows } else { rows };
        let values = self.n_rows * (self.cols + outputs) + if self.bias { rows } else { 0 };
        Cost {
            bytes: weight_bytes(&self.parts, self.cols) + size_of::<f32>() * values,
            flops: 2 * self.n_rows * rows * self.cols,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let rows = rows(&self.parts);
        let bias = || backend.upload(&Random::new(6).normal(rows, 1.0));
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            x: backend.upload(&Random::new(7).normal(self.n_rows * self.cols, 1.0))?,
            weight: random_matrix(backend, &self.parts, self.cols, 1.0)?,
            bias: self.bias.then(bias).transpose()?,
            out: backend.upload(&Random::new(8).normal(self.n_rows * rows, 1.0))?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.matmul(Matmul {
            x: &self.x,
            weight: &self.weight,
            bias: self.bias.as_ref(),
            n_rows: self.case.n_rows,
            accumulate: self.case.accumulate,
            out: &mut self.out,
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(
            backend,
            &self.out,
            self.case.n_rows * rows(&self.case.parts),
        )
    }
}
