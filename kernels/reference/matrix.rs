//! Weights as their file holds them, decoded row by row where they are used.

use rayon::prelude::*;

use super::dot;
use crate::backend::{Dimensions, MatrixSource};
use crate::error::Result;
use crate::quant::{self, Format};

/// Weight rows that a thread decodes at a time: an input row is read once for all of them.
const ROWS_AT_ONCE: usize = 8;

/// Matrices over the same input, stacked along their rows.
pub struct Matrix {
    parts: Vec<Part>,
    rows: usize,
    cols: usize,
}

/// One matrix of the stack.
struct Part {
    /// Its first row in the whole.
    first: usize,
    format: Format,
    row_bytes: usize,
    data: Vec<u8>,
}

impl Matrix {
    /// Copies `parts`.
    pub(super) fn new(parts: &[MatrixSource<'_>]) -> Result<Self> {
        let (rows, cols) = MatrixSource::stacked(parts)?;
        parts
            .iter()
            .try_for_each(|source| source.check_weights(source.data))?;
        let mut first = 0;
        let parts = parts
            .iter()
            .map(|source| {
                let part = Part {
                    first,
                    format: source.format,
                    row_bytes: source.data.len() / source.rows,
                    data: source.data.to_vec(),
                };
                first += source.rows;
                part
            })
            .collect();
        Ok(Self { parts, rows, cols })
    }

    /// Bytes of all weights.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.data.len()).sum()
    }

    /// Decodes row `row` into `out`, which is `cols` long.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let part = self.parts.partition_point(|part| part.first <= row) - 1;
        let part = &self.parts[part];
        let bytes = &part.data[(row - part.first) * part.row_bytes..][..part.row_bytes];
        quant::dequantise(part.format, bytes, out)
            .expect("the constructor has checked the lengths");
    }

    /// `Σ_i inputs[j][i] · W[o, i]` for every weight row and input, as `[rows, inputs.len()]`.
    ///
    /// A weight row is decoded once for all inputs, so the inputs are the inner index.
    pub(crate) fn products(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let n = inputs.len();
        let mut products = vec![0.0; self.rows * n];
        if n == 0 {
            return products;
        }
        products
            .par_chunks_mut(ROWS_AT_ONCE * n)
            .enumerate()
            .for_each_init(
                || vec![0.0; ROWS_AT_ONCE * self.cols],
                |weights, (chunk, products)| {
                    let n_rows = products.len() / n;
                    let weights = &mut weights[..n_rows * self.cols];
                    for (r, weights) in weights.chunks_exact_mut(self.cols).enumerate() {
                        self.row(chunk * ROWS_AT_ONCE + r, weights);
                    }
                    for (j, input) in inputs.iter().enumerate() {
                        for (r, weights) in weights.chunks_exact(self.cols).enumerate() {
                            products[r * n + j] = dot(input, weights);
                        }
                    }
                },
            );
        products
    }
}

impl Dimensions for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}
