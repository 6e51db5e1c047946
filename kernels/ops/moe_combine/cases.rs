//! The cases of `moe_combine`.

use super::MoeCombine;
use crate::backend::{Backend, RouteShape};
use crate::error::Result;
use crate::ops::moe_matmul::cases::{Load, random_routes, to_places};
use crate::ops::registry::{
    Case, Cost, N_ROWS, NORMAL, Prepared, Random, Tolerance, fetch, independent_rows,
};

/// A layer's sizes.
#[derive(Clone, Debug)]
pub struct MoeCombineCase {
    /// Experts.
    pub n_experts: usize,
    /// Experts that a row went to.
    pub top_k: usize,
    /// Row length.
    pub width: usize,
    /// Whether the result is added to what `out` holds.
    pub accumulate: bool,
    /// Rows.
    pub n_rows: usize,
}

struct Arguments<B: Backend> {
    case: MoeCombineCase,
    x: B::Buffer,
    routes: B::Routes,
    out: B::Buffer,
}

pub(crate) fn all() -> Vec<MoeCombineCase> {
    let mut cases = Vec::new();
    for (n_experts, top_k, width) in [(1, 1, 1), (8, 2, 33), (60, 4, 64), (128, 8, 2048)] {
        for n_rows in N_ROWS {
            cases.extend([false, true].map(|accumulate| MoeCombineCase {
                n_experts,
                top_k,
                width,
                accumulate,
                n_rows,
            }));
        }
    }
    cases
}

impl<B: Backend> Case<B> for MoeCombineCase {
    independent_rows!();

    fn tolerance(&self, _backend: &B) -> Tolerance {
        Tolerance {
            deviation: 0.0,
            largest: NORMAL,
            floor: 1.0,
            reason: "every backend rounds the same products and sums",
        }
    }

    fn cost(&self) -> Cost {
        let arrays = if self.accumulate { 2 } else { 1 };
        let values = self.n_rows * self.width;
        Cost {
            bytes: size_of::<f32>()
                * (values * (self.top_k + arrays) + 2 * self.n_rows * self.top_k),
            flops: 2 * values * self.top_k,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let shape = RouteShape {
            n_rows: self.n_rows,
            n_experts: self.n_experts,
            top_k: self.top_k,
        };
        let routes = random_routes(backend, shape, Load::Chance)?;
        let slots = Random::new(50).normal(self.n_rows * self.top_k * self.width, 1.0);
        let x = to_places(backend, &routes, &slots)?;
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            x: backend.upload(&x)?,
            routes,
            out: backend.upload(&Random::new(51).normal(self.n_rows * self.width, 1.0))?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.moe_combine(MoeCombine {
            x: &self.x,
            routes: &self.routes,
            n_rows: self.case.n_rows,
            width: self.case.width,
            accumulate: self.case.accumulate,
            out: &mut self.out,
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(backend, &self.out, self.case.n_rows * self.case.width)
    }
}
