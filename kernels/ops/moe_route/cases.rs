//! The cases of `moe_route`.

use super::{GroupScore, Groups, MoeRoute, Routing, Scoring};
use crate::backend::{Backend, RouteShape};
use crate::error::{Error, Result};
use crate::ops::registry::{
    Case, Cost, N_ROWS, NORMAL, Prepared, Random, Tolerance, independent_rows,
};

/// A router's sizes.
#[derive(Clone, Debug)]
pub struct MoeRouteCase {
    /// Experts.
    pub n_experts: usize,
    /// Experts that a row goes to.
    pub top_k: usize,
    /// How they are chosen.
    pub routing: Routing,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether the logits are whole numbers, so that many are equal.
    pub ties: bool,
    /// Rows.
    pub n_rows: usize,
}

struct Arguments<B: Backend> {
    case: MoeRouteCase,
    logits: B::Buffer,
    bias: Option<B::Buffer>,
    routes: B::Routes,
}

const PLAIN: Routing = Routing {
    scoring: Scoring::Softmax,
    groups: None,
    normalise: false,
    scale: 1.0,
};

/// The routers of known models and the smallest one.
fn routers() -> Vec<(usize, usize, Routing, bool)> {
    let normalised = Routing {
        normalise: true,
        ..PLAIN
    };
    let of_chosen = Routing {
        scoring: Scoring::SoftmaxOfChosen,
        ..PLAIN
    };
    let groups = |n_groups, n_chosen, score| {
        Some(Groups {
            n_groups,
            n_chosen,
            score,
        })
    };
    let deepseek_v2 = Routing {
        groups: groups(8, 3, GroupScore::Greatest),
        scale: 16.0,
        ..PLAIN
    };
    let deepseek_v3 = Routing {
        scoring: Scoring::Sigmoid,
        groups: groups(8, 4, GroupScore::TopTwo),
        normalise: true,
        scale: 2.5,
    };
    let groups_of_one = Routing {
        groups: groups(4, 2, GroupScore::TopTwo),
        ..deepseek_v3
    };
    vec![
        (1, 1, PLAIN, false),
        (4, 1, of_chosen, true),
        (4, 2, groups_of_one, true),
        (8, 2, normalised, false),
        (32, 4, of_chosen, false),
        (60, 4, PLAIN, false),
        (64, 6, normalised, true),
        (128, 8, normalised, false),
        (160, 6, deepseek_v2, false),
        (256, 8, deepseek_v3, true),
        (512, 10, normalised, false),
    ]
}

pub(crate) fn all() -> Vec<MoeRouteCase> {
    let mut cases = Vec::new();
    for (n_experts, top_k, routing, bias) in routers() {
        let case = MoeRouteCase {
            n_experts,
            top_k,
            routing,
            bias,
            ties: false,
            n_rows: 1,
        };
        cases.extend(N_ROWS.map(|n_rows| MoeRouteCase {
            n_rows,
            ..case.clone()
        }));
        cases.push(MoeRouteCase {
            ties: true,
            n_rows: 9,
            ..case
        });
    }
    cases
}

impl<B: Backend> Case<B> for MoeRouteCase {
    independent_rows!();

    fn tolerance(&self, _backend: &B) -> Tolerance {
        Tolerance {
            deviation: 0.0,
            largest: NORMAL,
            floor: 1.0,
            reason: "every backend computes the same bits",
        }
    }

    fn cost(&self) -> Cost {
        let slots = self.n_rows * self.top_k;
        Cost {
            // Experts, weights and places of the slots, rows and experts of the places.
            bytes: size_of::<f32>()
                * (self.n_rows * self.n_experts + 5 * slots + self.n_experts + 1),
            flops: self.n_rows * self.n_experts * (20 + self.top_k),
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let shape = RouteShape {
            n_rows: self.n_rows,
            n_experts: self.n_experts,
            top_k: self.top_k,
        };
        let mut logits = Random::new(30).normal(self.n_rows * self.n_experts, 2.0);
        let mut bias = Random::new(31).normal(self.n_experts, 0.2);
        if self.ties {
            logits.iter_mut().for_each(|logit| *logit = logit.round());
            bias.iter_mut().for_each(|bias| *bias = bias.round());
        }
        let bias = self.bias.then(|| backend.upload(&bias)).transpose()?;
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            logits: backend.upload(&logits)?,
            bias,
            routes: backend.routes(&shape)?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.moe_route(MoeRoute {
            logits: &self.logits,
            bias: self.bias.as_ref(),
            n_rows: self.case.n_rows,
            routing: self.case.routing,
            routes: &mut self.routes,
        })
    }

    /// The experts of each row, then their weights; an error if the places are not those that
    /// follow from the experts.
    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        let found = backend.download_routes(&self.routes)?;
        let mut expected = found.clone();
        expected.group(self.case.n_rows);
        if found != expected {
            return Err(Error::Device {
                device: backend.name().into(),
                detail: format!("the places are {found:?}, not {expected:?}"),
            });
        }
        let top_k = self.case.top_k;
        let rows = found.experts.chunks(top_k).zip(found.weights.chunks(top_k));
        let outputs = rows.flat_map(|(experts, weights)| {
            let experts = experts.iter().map(|&expert| expert as f32);
            experts.chain(weights.iter().copied())
        });
        Ok(outputs.collect())
    }
}
