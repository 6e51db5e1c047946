//! The cases of `rms_norm`.

use super::RmsNorm;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::registry::{
    Case, Cost, N_ROWS, NORMAL, Prepared, Random, Tolerance, fetch, independent_rows,
};

/// A norm's sizes.
#[derive(Clone, Debug)]
pub struct RmsNormCase {
    /// Rows.
    pub n_rows: usize,
    /// Row length.
    pub width: usize,
    /// Whether the result is added to what `out` holds.
    pub accumulate: bool,
}

struct Arguments<B: Backend> {
    case: RmsNormCase,
    x: B::Buffer,
    weight: B::Buffer,
    out: B::Buffer,
}

pub(crate) fn all() -> Vec<RmsNormCase> {
    let mut cases = Vec::new();
    for width in [1, 33, 64, 640] {
        for n_rows in N_ROWS {
            cases.extend([false, true].map(|accumulate| RmsNormCase {
                n_rows,
                width,
                accumulate,
            }));
        }
    }
    cases
}

impl<B: Backend> Case<B> for RmsNormCase {
    independent_rows!();

    fn tolerance(&self, _backend: &B) -> Tolerance {
        Tolerance {
            deviation: 2e-7,
            largest: NORMAL,
            floor: 1.0,
            reason: "the squares may be summed in another order, the product rounded otherwise",
        }
    }

    fn cost(&self) -> Cost {
        let values = self.n_rows * self.width;
        let arrays = if self.accumulate { 3 } else { 2 };
        Cost {
            bytes: size_of::<f32>() * (arrays * values + self.width),
            flops: 4 * values,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let len = self.n_rows * self.width;
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            x: backend.upload(&Random::new(3).normal(len, 20.0))?,
            weight: backend.upload(&Random::new(4).normal(self.width, 1.0))?,
            out: backend.upload(&Random::new(5).normal(len, 1.0))?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.rms_norm(RmsNorm {
            x: &self.x,
            weight: &self.weight,
            n_rows: self.case.n_rows,
            width: self.case.width,
            // Large enough for its want to be seen.
            epsilon: 0.3,
            accumulate: self.case.accumulate,
            out: &mut self.out,
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(backend, &self.out, self.case.n_rows * self.case.width)
    }
}
