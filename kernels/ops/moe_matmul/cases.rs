//! The cases of `moe_matmul`.

use super::{Input, MoeMatmul};
use crate::backend::{Backend, RouteShape};
use crate::error::Result;
use crate::ops::matmul::cases::{product_tolerance, weight_bytes};
use crate::ops::moe_route::{MoeRoute, Routing, Scoring};
use crate::ops::registry::{
    Case, Cost, N_ROWS, Prepared, Random, Tolerance, fetch, independent_rows, random_experts,
};
use crate::quant::Format;

/// The sizes of a layer of experts.
#[derive(Clone, Debug)]
pub struct MoeMatmulCase {
    /// Experts.
    pub n_experts: usize,
    /// Experts that a row goes to.
    pub top_k: usize,
    /// Format and rows of each matrix of an expert's stack.
    pub parts: Vec<(Format, usize)>,
    /// Input features.
    pub cols: usize,
    /// What the input holds.
    pub input: Input,
    /// Whether the layers have biases.
    pub bias: bool,
    /// How much the router prefers its last experts, with each of which the preference grows;
    /// 0 for not at all.
    pub preference: f32,
    /// Rows.
    pub n_rows: usize,
}

struct Arguments<B: Backend> {
    case: MoeMatmulCase,
    x: B::Buffer,
    experts: B::Experts,
    bias: Option<B::Buffer>,
    routes: B::Routes,
    out: B::Buffer,
}

impl MoeMatmulCase {
    fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.1).sum()
    }

    fn shape(&self) -> RouteShape {
        RouteShape {
            n_rows: self.n_rows,
            n_experts: self.n_experts,
            top_k: self.top_k,
        }
    }
}

/// Routes of `n_rows` random rows; later experts are preferred by `preference` each.
pub(crate) fn random_routes<B: Backend>(
    backend: &B,
    shape: RouteShape,
    preference: f32,
) -> Result<B::Routes> {
    let mut logits = Random::new(40).normal(shape.n_rows * shape.n_experts, 1.0);
    for row in logits.chunks_exact_mut(shape.n_experts) {
        for (expert, logit) in row.iter_mut().enumerate() {
            *logit += preference * expert as f32;
        }
    }
    let mut routes = backend.routes(&shape)?;
    backend.moe_route(MoeRoute {
        logits: &backend.upload(&logits)?,
        bias: None,
        n_rows: shape.n_rows,
        routing: Routing {
            scoring: Scoring::Softmax,
            groups: None,
            normalise: true,
            scale: 1.0,
        },
        routes: &mut routes,
    })?;
    Ok(routes)
}

/// Rows that stand by slot, each brought to its place.
pub(crate) fn to_places<B: Backend>(
    backend: &B,
    routes: &B::Routes,
    slots: &[f32],
) -> Result<Vec<f32>> {
    let places = backend.download_routes(routes)?.places;
    let width = slots.len() / places.len();
    let mut x = vec![0.0; slots.len()];
    for (slot, place) in slots.chunks(width).zip(places) {
        x[place as usize * width..][..width].copy_from_slice(slot);
    }
    Ok(x)
}

pub(crate) fn all() -> Vec<MoeMatmulCase> {
    let case = |(n_experts, top_k), parts: &[(Format, usize)], cols| MoeMatmulCase {
        n_experts,
        top_k,
        parts: parts.to_vec(),
        cols,
        input: Input::Rows,
        bias: false,
        preference: 0.0,
        n_rows: 1,
    };
    let gate_up = [(Format::Q4K, 24), (Format::Q6K, 24)];
    let down = MoeMatmulCase {
        input: Input::Places,
        ..case((60, 4), &[(Format::Q8_0, 40)], 96)
    };
    let layers = [
        case((4, 1), &[(Format::F16, 33)], 40),
        case((8, 2), &[(Format::Q8_0, 17)], 64),
        case((60, 4), &gate_up, 256),
        down,
        MoeMatmulCase {
            bias: true,
            ..case((128, 8), &[(Format::Mxfp4, 16), (Format::Mxfp4, 16)], 96)
        },
        MoeMatmulCase {
            // All rows to the last expert, and to the last two.
            preference: 100.0,
            ..case((4, 1), &[(Format::Bf16, 20)], 72)
        },
        MoeMatmulCase {
            preference: 100.0,
            input: Input::Places,
            bias: true,
            ..case((8, 2), &[(Format::Q4_0, 32)], 64)
        },
    ];
    let with_rows = |layer: &MoeMatmulCase| {
        let layer = layer.clone();
        N_ROWS.map(|n_rows| MoeMatmulCase {
            n_rows,
            ..layer.clone()
        })
    };
    let mut cases: Vec<_> = layers.iter().flat_map(with_rows).collect();
    cases.extend(Format::ALL.map(|format| MoeMatmulCase {
        n_rows: 9,
        ..case((4, 2), &[(format, 19)], 256)
    }));
    cases
}

impl<B: Backend> Case<B> for MoeMatmulCase {
    independent_rows!();

    fn tolerance(&self, backend: &B) -> Tolerance {
        product_tolerance(backend, self.parts.iter().map(|part| part.0))
    }

    fn cost(&self) -> Cost {
        let places = self.n_rows * self.top_k;
        let active = match self.preference {
            0.0 => self.n_experts.min(places),
            _ => self.top_k,
        };
        let in_rows = match self.input {
            Input::Rows => self.n_rows,
            Input::Places => places,
        };
        let bias = if self.bias { active * self.rows() } else { 0 };
        let values = in_rows * self.cols + places * self.rows() + bias;
        Cost {
            bytes: active * weight_bytes(&self.parts, self.cols) + size_of::<f32>() * values,
            flops: 2 * places * self.rows() * self.cols,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let bias = Random::new(41).normal(self.n_experts * self.rows(), 1.0);
        let bias = self.bias.then(|| backend.upload(&bias)).transpose()?;
        let routes = random_routes(backend, self.shape(), self.preference)?;
        let x = match self.input {
            Input::Rows => Random::new(42).normal(self.n_rows * self.cols, 1.0),
            Input::Places => {
                let slots = Random::new(42).normal(self.n_rows * self.top_k * self.cols, 1.0);
                to_places(backend, &routes, &slots)?
            }
        };
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            x: backend.upload(&x)?,
            experts: random_experts(backend, self.n_experts, &self.parts, self.cols)?,
            bias,
            routes,
            out: backend.buffer(self.n_rows * self.top_k * self.rows())?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.moe_matmul(MoeMatmul {
            x: &self.x,
            input: self.case.input,
            experts: &self.experts,
            bias: self.bias.as_ref(),
            routes: &self.routes,
            n_rows: self.case.n_rows,
            out: &mut self.out,
        })
    }

    /// By row and slot.
    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        let rows = self.case.rows();
        let places = backend.download_routes(&self.routes)?.places;
        let out = fetch(backend, &self.out, places.len() * rows)?;
        let slots = places.iter();
        Ok(slots
            .flat_map(|&place| out[place as usize * rows..][..rows].iter().copied())
            .collect())
    }
}
