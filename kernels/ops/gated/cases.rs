//! The cases of `gated`.

use super::{Activation, Gated};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::registry::{
    Case, Cost, N_ROWS, NORMAL, Prepared, Random, Tolerance, fetch, independent_rows,
};

/// An inner layer's sizes.
#[derive(Clone, Debug)]
pub struct GatedCase {
    /// Rows.
    pub n_rows: usize,
    /// Features.
    pub width: usize,
    /// The gate's function.
    pub activation: Activation,
}

struct Arguments<B: Backend> {
    case: GatedCase,
    gate_up: B::Buffer,
    out: B::Buffer,
}

pub(crate) fn all() -> Vec<GatedCase> {
    let mut cases = Vec::new();
    for activation in [Activation::Silu, Activation::GeluTanh] {
        for width in [1, 33, 2048] {
            cases.extend(N_ROWS.map(|n_rows| GatedCase {
                n_rows,
                width,
                activation,
            }));
        }
    }
    cases
}

impl<B: Backend> Case<B> for GatedCase {
    independent_rows!();

    fn tolerance(&self, _backend: &B) -> Tolerance {
        Tolerance {
            // A few roundings of 2^-24 each.
            deviation: 1.5e-7,
            largest: NORMAL,
            floor: 1.0,
            reason: "exp and tanh by polynomials",
        }
    }

    fn cost(&self) -> Cost {
        let values = self.n_rows * self.width;
        Cost {
            bytes: size_of::<f32>() * 3 * values,
            flops: 8 * values,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let len = 2 * self.n_rows * self.width;
        // Wide enough for both tails of the functions: beyond ±8 they are 0 and x.
        let gate_up = Random::new(10).normal(len, 4.0);
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            gate_up: backend.upload(&gate_up)?,
            out: backend.buffer(len / 2)?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.gated(Gated {
            gate_up: &self.gate_up,
            n_rows: self.case.n_rows,
            width: self.case.width,
            activation: self.case.activation,
            out: &mut self.out,
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(backend, &self.out, self.case.n_rows * self.case.width)
    }
}
