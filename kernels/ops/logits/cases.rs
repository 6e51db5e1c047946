//! The cases of `logits`.

use super::Logits;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::matmul::cases::{product_tolerance, weight_bytes};
use crate::ops::registry::{
    Case, Cost, N_ROWS, Prepared, Random, Tolerance, fetch, independent_rows, random_matrix,
};
use crate::quant::Format;

/// An output head and how many rows to score.
#[derive(Clone, Debug)]
pub struct LogitsCase {
    /// Encoding of the head.
    pub format: Format,
    /// Tokens to score.
    pub vocab: usize,
    /// Row length.
    pub width: usize,
    /// Rows to score, every third of those there are.
    pub n_rows: usize,
    /// Multiplies the logits.
    pub scale: f32,
    /// Bound of the logits.
    pub soft_cap: Option<f32>,
}

struct Arguments<B: Backend> {
    case: LogitsCase,
    x: B::Buffer,
    rows: Vec<usize>,
    weight: B::Matrix,
    out: B::Buffer,
}

pub(crate) fn all() -> Vec<LogitsCase> {
    let case = |format: Format, vocab, blocks, n_rows| LogitsCase {
        format,
        vocab,
        width: blocks * format.block_len(),
        n_rows,
        scale: 1.0,
        soft_cap: None,
    };
    let mut cases = vec![
        case(Format::Q8_0, 262_144, 1, 2),
        case(Format::Q6K, 1, 1, 1),
        LogitsCase {
            scale: 0.5,
            ..case(Format::F16, 33, 33, 7)
        },
    ];
    for format in Format::ALL {
        cases.extend(N_ROWS.map(|n_rows| case(format, 33, 2, n_rows)));
        // A cap of one bends logits of this magnitude strongly.
        cases.push(LogitsCase {
            soft_cap: Some(1.0),
            ..case(format, 33, 1, 9)
        });
    }
    cases
}

impl<B: Backend> Case<B> for LogitsCase {
    independent_rows!();

    fn tolerance(&self, backend: &B) -> Tolerance {
        product_tolerance(backend, [self.format])
    }

    fn cost(&self) -> Cost {
        let values = self.n_rows * (self.width + self.vocab);
        let parts = [(self.format, self.vocab)];
        Cost {
            bytes: weight_bytes(&parts, self.width) + size_of::<f32>() * values,
            flops: 2 * self.n_rows * self.vocab * self.width,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let all_rows = 3 * self.n_rows;
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            x: backend.upload(&Random::new(9).normal(all_rows * self.width, 1.0))?,
            rows: (0..all_rows).step_by(3).collect(),
            weight: random_matrix(backend, &[(self.format, self.vocab)], self.width, 1.0)?,
            out: backend.buffer(self.n_rows * self.vocab)?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.logits(Logits {
            x: &self.x,
            rows: &self.rows,
            weight: &self.weight,
            scale: self.case.scale,
            soft_cap: self.case.soft_cap,
            out: &mut self.out,
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(backend, &self.out, self.case.n_rows * self.case.vocab)
    }
}
