//! The cases of `matmul`.

use super::{Matmul, Norm};
use crate::backend::{ActivationRounding, Backend};
use crate::error::Result;
use crate::ops::gated::Activation;
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
    /// Whether the inputs are normalised first.
    pub norm: bool,
    /// Whether the layer has a bias.
    pub bias: bool,
    /// Bound of the outputs.
    pub soft_cap: Option<f32>,
    /// The function of the gates, if half of the outputs are that.
    pub gate: Option<Activation>,
    /// Whether the result is added to what `out` holds.
    pub accumulate: bool,
}

struct Arguments<B: Backend> {
    case: MatmulCase,
    x: B::Buffer,
    weight: B::Matrix,
    norm: Option<B::Buffer>,
    bias: Option<B::Buffer>,
    out: B::Buffer,
}

impl MatmulCase {
    /// Columns of the output.
    fn out_width(&self) -> usize {
        match self.gate {
            Some(_) => rows(&self.parts) / 2,
            None => rows(&self.parts),
        }
    }
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

/// The error that comes with the format among `formats` for which `backend` rounds activations most.
pub(crate) fn product_tolerance<B: Backend>(
    backend: &B,
    formats: impl IntoIterator<Item = Format>,
) -> Tolerance {
    let roundings = formats
        .into_iter()
        .map(|format| backend.activation_rounding(format));
    let worst = roundings
        .max_by(|a, b| a.deviation.total_cmp(&b.deviation))
        .unwrap_or(ActivationRounding::NONE);
    Tolerance {
        deviation: worst.deviation,
        largest: NORMAL,
        floor: 1.0,
        reason: worst.reason,
    }
}

pub(crate) fn all() -> Vec<MatmulCase> {
    let case = |parts: &[(Format, usize)], cols, n_rows| MatmulCase {
        parts: parts.to_vec(),
        cols,
        n_rows,
        norm: false,
        bias: false,
        soft_cap: None,
        gate: None,
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
    for n_rows in [1, 9] {
        cases.extend(fused(n_rows));
    }
    cases.extend(gates());
    cases
}

/// Two matrices of `rows` outputs each: gates and their values, if there are gates.
fn halves(format: Format, rows: usize, cols: usize, n_rows: usize) -> MatmulCase {
    MatmulCase {
        parts: vec![(format, rows), (format, rows)],
        cols,
        n_rows,
        norm: false,
        bias: false,
        soft_cap: None,
        gate: None,
        accumulate: false,
    }
}

/// Gates of every format. Tiles have 16 rows and blocks up to 8 tiles, of which 32 gates and their
/// values do not fill one; 80 take two, and where a sum over
/// many columns is cut into eight slices, every tile has a block of its own.
fn gates() -> Vec<MatmulCase> {
    let mut cases = vec![];
    for format in Format::ALL {
        let gated = |rows, cols, n_rows| MatmulCase {
            gate: Some(Activation::Silu),
            ..halves(format, rows, cols, n_rows)
        };
        cases.extend(N_ROWS.map(|n_rows| gated(32, 256, n_rows)));
        for n_rows in [1, 9] {
            // Their tiles are not those of the values.
            cases.push(gated(24, 256, n_rows));
            cases.push(MatmulCase {
                bias: true,
                soft_cap: Some(2.0),
                gate: Some(Activation::GeluTanh),
                accumulate: true,
                ..gated(80, 256, n_rows)
            });
            cases.push(gated(48, 1024, n_rows));
        }
        // More columns than a decode block has room for at a time: it packs each slice in two passes,
        // and again for the tiles of the values. How it packs is the same for all formats; sums of
        // so many products in f32 lie further apart than those of the other cases.
        if !matches!(format, Format::F32 | Format::F16) {
            cases.push(gated(48, 5120, 8));
        }
    }
    cases
}

/// What a matmul does beside multiplying: norm, soft cap and gate, alone and together.
fn fused(n_rows: usize) -> Vec<MatmulCase> {
    let plain = |format, rows, cols| halves(format, rows, cols, n_rows);
    let mut cases = vec![
        MatmulCase {
            soft_cap: Some(0.5),
            ..plain(Format::Q8_0, 20, 320)
        },
        MatmulCase {
            norm: true,
            bias: true,
            soft_cap: Some(2.0),
            gate: Some(Activation::GeluTanh),
            accumulate: true,
            ..plain(Format::Q6K, 24, 512)
        },
    ];
    for format in [Format::F32, Format::Bf16, Format::Q8_0, Format::Q4K] {
        // 17 gates: their tiles are not those of the gated values.
        for rows in [17, 64] {
            cases.push(MatmulCase {
                norm: true,
                ..plain(format, rows, 768)
            });
            cases.push(MatmulCase {
                norm: true,
                gate: Some(Activation::Silu),
                ..plain(format, rows, 512)
            });
        }
    }
    cases
}

impl<B: Backend> Case<B> for MatmulCase {
    independent_rows!();

    fn tolerance(&self, backend: &B) -> Tolerance {
        let product = product_tolerance(backend, self.parts.iter().map(|part| part.0));
        match self.gate {
            None => product,
            // Off by act'(g)·u·δg + act(g)·δu: below the deviation of δ in the mean over normal
            // g and u, six times that where both are four deviations large.
            Some(_) => Tolerance {
                largest: 6.0 * product.largest,
                ..product
            },
        }
    }

    fn cost(&self) -> Cost {
        let rows = rows(&self.parts);
        let width = self.out_width();
        let outputs = if self.accumulate { 2 * width } else { width };
        let vectors = if self.bias { rows } else { 0 } + if self.norm { self.cols } else { 0 };
        let values = self.n_rows * (self.cols + outputs) + vectors;
        Cost {
            bytes: weight_bytes(&self.parts, self.cols) + size_of::<f32>() * values,
            flops: 2 * self.n_rows * rows * self.cols,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let rows = rows(&self.parts);
        let bias = || backend.upload(&Random::new(6).normal(rows, 1.0));
        // Close to one, so that the inputs stay as normal as the tolerance takes them to be.
        let near_one = |w: f32| 1.0 + w;
        let weights = Random::new(9).normal(self.cols, 0.1);
        let weights: Vec<f32> = weights.into_iter().map(near_one).collect();
        let norm = || backend.upload(&weights);
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            x: backend.upload(&Random::new(7).normal(self.n_rows * self.cols, 1.0))?,
            weight: random_matrix(backend, &self.parts, self.cols, 1.0)?,
            norm: self.norm.then(norm).transpose()?,
            bias: self.bias.then(bias).transpose()?,
            out: backend.upload(&Random::new(8).normal(self.n_rows * self.out_width(), 1.0))?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        let norm = |weight| Norm {
            weight,
            // Large enough for its want to be seen.
            epsilon: 0.3,
        };
        backend.matmul(Matmul {
            norm: self.norm.as_ref().map(norm),
            bias: self.bias.as_ref(),
            soft_cap: self.case.soft_cap,
            gate: self.case.gate,
            accumulate: self.case.accumulate,
            ..Matmul::new(&self.x, &self.weight, self.case.n_rows, &mut self.out)
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(backend, &self.out, self.case.n_rows * self.case.out_width())
    }
}
