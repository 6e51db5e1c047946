//! Mixtures of experts against the formulas of the models' reference implementations in numpy.
//!
//! `golden/moe/make.py` wrote which experts are chosen, with what weights, and what a whole
//! layer gives; the arguments are computed alike there and here.

use std::collections::BTreeMap;

use onward_emulator::{Build, Emulator};
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::gated::{Activation, Gated};
use onward_kernels::ops::moe_combine::MoeCombine;
use onward_kernels::ops::moe_matmul::{Input, MoeMatmul};
use onward_kernels::ops::moe_route::{GroupScore, Groups, MoeRoute, Routes, Routing, Scoring};
use onward_kernels::quant::quantise;
use onward_kernels::{Backend, Cpu, Format, MatrixSource, Reference, RouteShape};
use serde::Deserialize;

const N_ROWS: usize = 7;

#[derive(Deserialize)]
struct Golden {
    routes: BTreeMap<String, Choice>,
    layer: Vec<f32>,
}

#[derive(Deserialize)]
struct Choice {
    experts: Vec<u32>,
    weights: Vec<f32>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/moe/expected.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// `n` numbers between −1 and 1, exactly those of `make.py`.
fn values(n: usize, seed: usize) -> Vec<f32> {
    let value = |i| ((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.5 - 1.0;
    (0..n).map(|i| value(i) as f32).collect()
}

fn logits(n_experts: usize, seed: usize) -> Vec<f32> {
    let values = values(N_ROWS * n_experts, seed);
    values.iter().map(|x| 4.0 * x).collect()
}

const MIXTRAL: Routing = Routing {
    scoring: Scoring::Softmax,
    groups: None,
    normalise: true,
    scale: 1.0,
};

fn groups(n_chosen: usize, score: GroupScore) -> Option<Groups> {
    Some(Groups {
        n_groups: 8,
        n_chosen,
        score,
    })
}

fn route<B: Backend>(
    backend: &B,
    logits: &[f32],
    bias: Option<&[f32]>,
    top_k: usize,
    routing: Routing,
) -> B::Routes {
    let shape = RouteShape {
        n_rows: N_ROWS,
        n_experts: logits.len() / N_ROWS,
        top_k,
    };
    let mut routes = backend.routes(&shape).unwrap();
    let bias = bias.map(|bias| backend.upload(bias).unwrap());
    let op = MoeRoute {
        logits: &backend.upload(logits).unwrap(),
        bias: bias.as_ref(),
        n_rows: N_ROWS,
        routing,
        routes: &mut routes,
    };
    backend.moe_route(op).unwrap();
    routes
}

fn assert_close(name: &str, outputs: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(outputs.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    for (i, (y, x)) in outputs.iter().zip(expected).enumerate() {
        let error = (y - x).abs() / largest;
        assert!(error <= tolerance, "{name}, value {i} is {y}, not {x}");
    }
}

#[test]
fn routers_choose_as_their_models_do() {
    let qwen2_moe = Routing {
        normalise: false,
        ..MIXTRAL
    };
    let gpt_oss = Routing {
        scoring: Scoring::SoftmaxOfChosen,
        ..qwen2_moe
    };
    let deepseek_v2 = Routing {
        groups: groups(3, GroupScore::Greatest),
        scale: 16.0,
        ..qwen2_moe
    };
    let deepseek_v3 = Routing {
        scoring: Scoring::Sigmoid,
        groups: groups(4, GroupScore::TopTwo),
        scale: 2.5,
        ..MIXTRAL
    };
    let bias: Vec<f32> = values(256, 15).iter().map(|x| 0.1 * (x + 1.0)).collect();
    let golden = golden();
    for (name, logits, bias, top_k, routing) in [
        ("mixtral", logits(8, 10), None, 2, MIXTRAL),
        ("qwen2_moe", logits(60, 11), None, 4, qwen2_moe),
        ("gpt_oss", logits(32, 12), None, 4, gpt_oss),
        ("deepseek_v2", logits(160, 13), None, 6, deepseek_v2),
        ("deepseek_v3", logits(256, 14), Some(&*bias), 8, deepseek_v3),
    ] {
        let routes = route(&Reference::new(), &logits, bias, top_k, routing);
        let expected = &golden.routes[name];
        assert_eq!(routes.experts, expected.experts, "{name}");
        // Some ten roundings.
        assert_close(name, &routes.weights, &expected.weights, 1e-6);
        assert_grouped(&routes, top_k);
    }
}

/// Each expert has the rows that chose it, in ascending order, and each slot is at its place.
fn assert_grouped(routes: &Routes, top_k: usize) {
    let mut places = 0..;
    for expert in 0..routes.offsets.len() - 1 {
        let chose = |row: &usize| routes.experts[row * top_k..][..top_k].contains(&(expert as u32));
        let rows: Vec<u32> = (0..N_ROWS).filter(chose).map(|row| row as u32).collect();
        assert_eq!(routes.rows_of(expert), rows);
        for (row, place) in rows.iter().zip(&mut places) {
            let slots = *row as usize * top_k..(*row as usize + 1) * top_k;
            let slot = slots
                .into_iter()
                .find(|&s| routes.experts[s] == expert as u32);
            assert_eq!(routes.places[slot.unwrap()], place);
        }
    }
}

#[test]
fn of_equal_experts_the_first_are_chosen() {
    for scoring in [Scoring::Softmax, Scoring::SoftmaxOfChosen, Scoring::Sigmoid] {
        let routing = Routing { scoring, ..MIXTRAL };
        let routes = route(&Reference::new(), &[0.25; N_ROWS * 6], None, 3, routing);
        assert_eq!(routes.experts, [0, 1, 2].repeat(N_ROWS));
        assert_close("weights", &routes.weights, &[1.0 / 3.0; N_ROWS * 3], 1e-7);
    }
}

#[test]
fn a_broken_logit_makes_broken_weights() {
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for scoring in [Scoring::Softmax, Scoring::SoftmaxOfChosen, Scoring::Sigmoid] {
            let mut logits = logits(6, 16);
            logits[6 + 2] = broken;
            let routing = Routing { scoring, ..MIXTRAL };
            let routes = route(&Reference::new(), &logits, None, 2, routing);
            for (slot, weight) in routes.weights.iter().enumerate() {
                assert_eq!(weight.is_nan(), slot / 2 == 1, "{broken} by {scoring:?}");
            }
            assert!(routes.experts.iter().all(|&expert| expert < 6));
        }
    }
}

/// Matrices `[rows, cols]` of six experts in F32.
fn experts<B: Backend>(backend: &B, seed: usize, rows: usize, cols: usize) -> B::Experts {
    let weights = quantise(Format::F32, &values(6 * rows * cols, seed)).unwrap();
    let sources: Vec<_> = weights
        .chunks(rows * cols * 4)
        .map(|data| {
            vec![MatrixSource {
                name: "experts",
                format: Format::F32,
                rows,
                cols,
                data,
            }]
        })
        .collect();
    backend.experts(&sources).unwrap()
}

/// A layer of Mixtral: router, gates and ups, activation, downs, sum.
fn layer<B: Backend>(backend: &B) -> Vec<f32> {
    let routes = route(backend, &logits(6, 16), None, 2, MIXTRAL);
    let buffer = |len| backend.buffer(len).unwrap();
    let upload = |values: &[f32]| backend.upload(values).unwrap();
    let (mut gate_up, mut inner) = (buffer(N_ROWS * 2 * 14), buffer(N_ROWS * 2 * 7));
    let mut outer = buffer(N_ROWS * 2 * 10);
    let mut out = upload(&values(N_ROWS * 10, 4));
    let first = MoeMatmul {
        x: &upload(&values(N_ROWS * 10, 3)),
        input: Input::Rows,
        experts: &experts(backend, 5, 14, 10),
        bias: Some(&upload(&values(6 * 14, 6))),
        routes: &routes,
        n_rows: N_ROWS,
        out: &mut gate_up,
    };
    backend.moe_matmul(first).unwrap();
    let gated = Gated {
        gate_up: &gate_up,
        n_rows: N_ROWS * 2,
        width: 7,
        activation: Activation::Silu,
        out: &mut inner,
    };
    backend.gated(gated).unwrap();
    let second = MoeMatmul {
        x: &inner,
        input: Input::Places,
        experts: &experts(backend, 7, 10, 7),
        bias: None,
        routes: &routes,
        n_rows: N_ROWS,
        out: &mut outer,
    };
    backend.moe_matmul(second).unwrap();
    let combine = MoeCombine {
        x: &outer,
        routes: &routes,
        n_rows: N_ROWS,
        width: 10,
        accumulate: true,
        out: &mut out,
    };
    backend.moe_combine(combine).unwrap();
    let mut values = vec![f32::NAN; N_ROWS * 10];
    backend.download(&out, 0..N_ROWS * 10, &mut values).unwrap();
    values
}

#[test]
fn a_layer_gives_what_numpy_says() {
    let expected = golden().layer;
    // Some twenty roundings one after the other.
    assert_close("reference", &layer(&Reference::new()), &expected, 4e-6);
    assert_close("cpu", &layer(&Cpu::new(2).unwrap()), &expected, 4e-6);
    Emulator::install(Build::Optimised).unwrap();
    let cuda = Cuda::open(0).unwrap();
    assert_close("cuda", &layer(&cuda), &expected, 4e-6);
}

/// Routes `n_rows` rows of a batch and multiplies them by the experts they go to.
fn products<B: Backend>(
    backend: &B,
    routes: &mut B::Routes,
    seed: usize,
    n_rows: usize,
) -> Vec<f32> {
    let logits = logits(6, seed);
    let op = MoeRoute {
        logits: &backend.upload(&logits.repeat(4)).unwrap(),
        bias: None,
        n_rows,
        routing: MIXTRAL,
        routes,
    };
    backend.moe_route(op).unwrap();
    let weights = quantise(Format::Q8_0, &values(6 * 20 * 64, 5)).unwrap();
    let source = |data| MatrixSource {
        name: "experts",
        format: Format::Q8_0,
        rows: 20,
        cols: 64,
        data,
    };
    let experts: Vec<_> = (weights.chunks(weights.len() / 6))
        .map(|data| vec![source(data)])
        .collect();
    let mut out = backend.upload(&[f32::NAN; 28 * 2 * 20]).unwrap();
    let op = MoeMatmul {
        x: &backend.upload(&values(28 * 64, 3)).unwrap(),
        input: Input::Rows,
        experts: &backend.experts(&experts).unwrap(),
        bias: None,
        routes,
        n_rows,
        out: &mut out,
    };
    backend.moe_matmul(op).unwrap();
    let mut values = vec![0.0; 28 * 2 * 20];
    backend
        .download(&out, 0..values.len(), &mut values)
        .unwrap();
    values
}

/// Routes are kept from step to step: nothing of a longer batch may be left for the next.
fn assert_forgets<B: Backend>(backend: &B) {
    let shape = RouteShape {
        n_rows: 28,
        n_experts: 6,
        top_k: 2,
    };
    for n_rows in [1, 8, 13, 28] {
        let mut fresh = backend.routes(&shape).unwrap();
        let expected = products(backend, &mut fresh, 17, n_rows);
        let mut used = backend.routes(&shape).unwrap();
        products(backend, &mut used, 16, 28);
        let found = products(backend, &mut used, 17, n_rows);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&found),
            bits(&expected),
            "{n_rows} on {}",
            backend.name()
        );
        // Those rows have products, and nothing else has been touched.
        let (own, others) = found.split_at(n_rows * 2 * 20);
        assert!(own.iter().all(|y| y.is_finite()), "{n_rows}");
        assert!(others.iter().all(|y| y.is_nan()), "{n_rows}");
        let [found, expected] =
            [&used, &fresh].map(|routes| backend.download_routes(routes).unwrap());
        assert_eq!(found.offsets, expected.offsets, "{n_rows}");
    }
}

#[test]
fn routes_forget_the_batch_before() {
    assert_forgets(&Reference::new());
    assert_forgets(&Cpu::new(2).unwrap());
    Emulator::install(Build::Optimised).unwrap();
    assert_forgets(&Cuda::open(0).unwrap());
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let reference = Reference::new();
    let shape = |n_experts, top_k| RouteShape {
        n_rows: N_ROWS,
        n_experts,
        top_k,
    };
    for bad in [shape(0, 0), shape(4, 0), shape(4, 5), shape(513, 2)] {
        assert!(reference.routes(&bad).is_err(), "{bad:?}");
    }
    let mut routes = reference.routes(&shape(8, 4)).unwrap();
    for (n_groups, n_chosen) in [(0, 0), (3, 1), (4, 0), (4, 5), (8, 3)] {
        let op = MoeRoute {
            logits: &vec![0.0; 8],
            bias: None,
            n_rows: 1,
            routing: Routing {
                groups: Some(Groups {
                    n_groups,
                    n_chosen,
                    score: GroupScore::TopTwo,
                }),
                ..MIXTRAL
            },
            routes: &mut routes,
        };
        assert!(reference.moe_route(op).is_err(), "{n_groups} {n_chosen}");
    }
    let mut out = vec![0.0; 100];
    let op = MoeMatmul {
        x: &vec![0.0; 10],
        input: Input::Rows,
        experts: &experts(&reference, 5, 14, 10),
        bias: None,
        routes: &routes,
        n_rows: 1,
        out: &mut out,
    };
    let error = reference.moe_matmul(op).unwrap_err().to_string();
    assert!(error.contains("8 experts"), "{error}");
    assert!(reference.experts(&[]).is_err());
}
