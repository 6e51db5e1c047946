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
    /// Which experts the rows go to.
    pub load: Load,
    /// Rows.
    pub n_rows: usize,
}

/// Which experts rows go to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Any.
    Chance,
    /// All rows to the last ones.
    Last,
    /// Each expert has this many places, if all rows are there; rows go to one each.
    Counts(&'static [usize]),
}

impl Load {
    /// Logits of `n_rows` rows that make a router choose so.
    fn logits(self, n_rows: usize, n_experts: usize) -> Vec<f32> {
        const PREFERENCE: f32 = 100.0;
        let mut logits = Random::new(40).normal(n_rows * n_experts, 1.0);
        let rows = logits.chunks_exact_mut(n_experts);
        match self {
            Self::Chance => {}
            Self::Last => rows.for_each(|row| {
                for (expert, logit) in row.iter_mut().enumerate() {
                    *logit += PREFERENCE * expert as f32;
                }
            }),
            Self::Counts(counts) => {
                for (row, expert) in rows.zip(in_turn(counts)) {
                    row[expert] += PREFERENCE;
                }
            }
        }
        logits
    }

    /// Experts that have places when `n_rows` rows go to `top_k` of `n_experts` each; of those that
    /// are left to chance as many as there can be.
    fn n_active(self, n_rows: usize, n_experts: usize, top_k: usize) -> usize {
        match self {
            Self::Chance => n_experts.min(n_rows * top_k),
            Self::Last => top_k,
            Self::Counts(counts) => {
                let mut active = vec![false; n_experts];
                for expert in in_turn(counts).take(n_rows) {
                    active[expert] = true;
                }
                active.into_iter().filter(|&active| active).count()
            }
        }
    }
}

/// The experts of the rows: those that have places left take one in turn.
fn in_turn(counts: &'static [usize]) -> impl Iterator<Item = usize> {
    let most = counts.iter().copied().max().unwrap_or(0);
    (0..most).flat_map(move |round| {
        let left = counts
            .iter()
            .enumerate()
            .filter(move |count| *count.1 > round);
        left.map(|(expert, _)| expert)
    })
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

/// Routes of rows with random weights.
pub(crate) fn random_routes<B: Backend>(
    backend: &B,
    shape: RouteShape,
    load: Load,
) -> Result<B::Routes> {
    let logits = load.logits(shape.n_rows, shape.n_experts);
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

/// Experts with matrices of `parts`, one row by chance.
fn experts(
    (n_experts, top_k): (usize, usize),
    parts: &[(Format, usize)],
    cols: usize,
) -> MoeMatmulCase {
    MoeMatmulCase {
        n_experts,
        top_k,
        parts: parts.to_vec(),
        cols,
        input: Input::Rows,
        bias: false,
        load: Load::Chance,
        n_rows: 1,
    }
}

pub(crate) fn all() -> Vec<MoeMatmulCase> {
    let gate_up = [(Format::Q4K, 24), (Format::Q6K, 24)];
    let down = MoeMatmulCase {
        input: Input::Places,
        ..experts((60, 4), &[(Format::Q8_0, 40)], 96)
    };
    let layers = [
        experts((4, 1), &[(Format::F16, 33)], 40),
        experts((8, 2), &[(Format::Q8_0, 17)], 64),
        experts((60, 4), &gate_up, 256),
        down,
        MoeMatmulCase {
            bias: true,
            ..experts((128, 8), &[(Format::Mxfp4, 16), (Format::Mxfp4, 16)], 96)
        },
        MoeMatmulCase {
            // All rows to the last expert, and to the last two.
            load: Load::Last,
            ..experts((4, 1), &[(Format::Bf16, 20)], 72)
        },
        MoeMatmulCase {
            load: Load::Last,
            input: Input::Places,
            bias: true,
            ..experts((8, 2), &[(Format::Q4_0, 32)], 64)
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
    cases.extend(tiles_of_places());
    for format in Format::ALL {
        // On both sides of the kernels for many places, and the widest of them.
        cases.extend(
            [((4, 2), 8), ((4, 2), 9), ((1, 1), 65)].map(|(of, n_rows)| MoeMatmulCase {
                n_rows,
                ..experts(of, &[(format, 19)], 256)
            }),
        );
    }
    cases
}

/// Experts with no place, one, and numbers on both sides of tiles of 8, 32 and 64 places.
fn tiles_of_places() -> Vec<MoeMatmulCase> {
    let case = |counts: &'static [usize], parts: &[(Format, usize)], cols| MoeMatmulCase {
        load: Load::Counts(counts),
        n_rows: counts.iter().sum(),
        ..experts((counts.len(), 1), parts, cols)
    };
    const NARROW: &[usize] = &[0, 1, 8, 9, 0, 64, 65, 0];
    const WIDE: &[usize] = &[9, 1, 0, 64, 65, 33, 64, 65];
    vec![
        // Rows and columns that fill no tile, two parts, one of them with activations in bf16.
        case(NARROW, &[(Format::Q4_1, 19), (Format::Bf16, 150)], 96),
        case(WIDE, &[(Format::Q5_1, 150), (Format::Bf16, 19)], 160),
        MoeMatmulCase {
            input: Input::Places,
            bias: true,
            ..case(NARROW, &[(Format::Q4K, 33)], 768)
        },
        MoeMatmulCase {
            input: Input::Places,
            bias: true,
            ..case(WIDE, &[(Format::Q5K, 33)], 768)
        },
        // The last tile of places is that of the last expert.
        case(&[31, 33, 0, 1], &[(Format::Q8_0, 16)], 64),
    ]
}

impl<B: Backend> Case<B> for MoeMatmulCase {
    independent_rows!();

    fn tolerance(&self, backend: &B) -> Tolerance {
        product_tolerance(backend, self.parts.iter().map(|part| part.0))
    }

    fn cost(&self) -> Cost {
        let places = self.n_rows * self.top_k;
        let active = (self.load).n_active(self.n_rows, self.n_experts, self.top_k);
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
        let routes = random_routes(backend, self.shape(), self.load)?;
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
