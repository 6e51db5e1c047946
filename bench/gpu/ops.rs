//! Every operation at the shapes of a large model. Inputs change from launch to launch, so that
//! what is read comes from memory and not from the second-level cache.

use anyhow::{Result, ensure};
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::attend::cases::AttendCase;
use onward_kernels::ops::attention::{Mask, cases::AttentionCase};
use onward_kernels::ops::embed::cases::EmbedCase;
use onward_kernels::ops::gated::{Activation, cases::GatedCase};
use onward_kernels::ops::matmul::{Matmul, Norm};
use onward_kernels::ops::moe_combine::cases::MoeCombineCase;
use onward_kernels::ops::moe_matmul::Input;
use onward_kernels::ops::moe_matmul::cases::{Load, MoeMatmulCase};
use onward_kernels::ops::moe_route::cases::MoeRouteCase;
use onward_kernels::ops::moe_route::{Routing, Scoring};
use onward_kernels::ops::registry::{Case, Heads, Sequence};
use onward_kernels::ops::rms_norm::cases::RmsNormCase;
use onward_kernels::ops::rope_append::RopePairs;
use onward_kernels::ops::rope_append::cases::{RopeAppendCase, Rotation};
use onward_kernels::{Backend, Format, MatrixSource};
use serde_json::json;

use crate::Bench;
use crate::random::weights;
use crate::record::time;
use crate::shapes::Shape;
use onward_kernels::ops::registry::Random;

/// Bytes of inputs that launches take in turn: more than any second-level cache holds.
const ROTATED: usize = 400 << 20;
/// Sets of inputs at most.
const MAX_INPUTS: usize = 32;

/// A product to time.
struct Product {
    /// What the matrix is in a layer.
    name: &'static str,
    rows: usize,
    cols: usize,
    /// Normalises its inputs.
    norm: bool,
    /// Its outputs are gates and what they meet.
    gate: bool,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let cuda = bench.open()?;
    for format in [Format::Bf16, Format::Q4K] {
        for product in products(bench) {
            run_product(bench, &cuda, format, &product)?;
        }
    }
    for (name, case) in cases(bench) {
        run_case(bench, &cuda, name, case.as_ref())?;
    }
    Ok(())
}

/// The matrices of a layer, and the head.
fn products(bench: &Bench) -> Vec<Product> {
    let s = bench.pick(Shape::Llama8B, Shape::Tiny).sizes();
    let product = |name, rows, cols, norm, gate| Product {
        name,
        rows,
        cols,
        norm,
        gate,
    };
    vec![
        product("qkv", s.q_width() + 2 * s.kv_width(), s.width, true, false),
        product("attention output", s.width, s.q_width(), false, false),
        product("gate and up", 2 * s.ff_width, s.width, true, true),
        product("down", s.width, s.ff_width, false, false),
        product("head", s.vocab, s.width, false, false),
    ]
}

/// One matrix for all numbers of tokens.
fn run_product(bench: &Bench, cuda: &Cuda, format: Format, product: &Product) -> Result<()> {
    let &Product { rows, cols, .. } = product;
    let bytes = format.row_bytes(cols).unwrap_or(0) * rows;
    let n_inputs = bench.pick((ROTATED / bytes).clamp(2, MAX_INPUTS), 2);
    let matrices = (0..n_inputs as u64)
        .map(|seed| {
            let data = weights(format, rows, cols, seed)?;
            Ok(cuda.matrix(&[MatrixSource {
                name: product.name,
                format,
                rows,
                cols,
                data: &data,
            }])?)
        })
        .collect::<Result<Vec<_>>>()?;
    let norm = cuda.upload(&vec![1.0; cols])?;
    let width = if product.gate { rows / 2 } else { rows };
    for &n_rows in bench.pick(&[1, 8, 64, 512, 2048][..], &[1, 9]) {
        if product.name == "head" && n_rows > 64 {
            continue;
        }
        let x = cuda.upload(&Random::new(7).uniform(n_rows * cols))?;
        let mut out = cuda.upload(&vec![f32::NAN; n_rows * width])?;
        let (spread, is_recorded) = time(cuda, bench.pick(20, 2), n_inputs, |index| {
            let weight = Norm {
                weight: &norm,
                epsilon: 1e-6,
            };
            Ok(cuda.matmul(Matmul {
                norm: product.norm.then_some(weight),
                gate: product.gate.then_some(Activation::Silu),
                ..Matmul::new(&x, &matrices[index], n_rows, &mut out)
            })?)
        })?;
        let mut values = vec![0.0; n_rows * width];
        cuda.download(&out, 0..n_rows * width, &mut values)?;
        ensure!(
            values.iter().all(|y| y.is_finite()) && values.iter().any(|&y| y != 0.0),
            "{}: outputs are missing",
            product.name
        );
        let what = json!({
            "op": if product.name == "head" { "logits" } else { "matmul" },
            "case": format!("{}, {format}, [{rows}, {cols}], {n_rows} tokens", product.name),
            "format": format.to_string(), "rows": rows, "cols": cols, "tokens": n_rows,
            "bytes": bytes + 4 * n_rows * (cols + width),
            "flops": 2 * n_rows * rows * cols,
            "recorded": is_recorded,
        });
        spread.say("op", "us", &what)?;
    }
    Ok(())
}

/// The other operations, at few and many tokens.
fn cases(bench: &Bench) -> Vec<(&'static str, Box<dyn Case<Cuda>>)> {
    let s = bench.pick(Shape::Llama8B, Shape::Tiny).sizes();
    let heads = Heads {
        n_heads: s.n_heads,
        n_kv_heads: s.n_kv_heads,
        head_dim: s.head_dim,
    };
    let rotation = Rotation {
        n_pairs: s.head_dim / 2,
        pairs: RopePairs::Adjacent,
        attention_factor: 1.0,
    };
    let n_experts = bench.pick(16, 4);
    let mut cases: Vec<(&'static str, Box<dyn Case<Cuda>>)> = Vec::new();
    for &n_rows in bench.pick(&[1, 64, 2048][..], &[1, 9]) {
        let width = s.width;
        cases.push((
            "embed",
            Box::new(EmbedCase {
                format: Format::Bf16,
                vocab: bench.pick(16_384, 512),
                width,
                n_rows,
            }),
        ));
        cases.push((
            "rms_norm",
            Box::new(RmsNormCase {
                n_rows,
                width,
                accumulate: false,
            }),
        ));
        cases.push((
            "gated",
            Box::new(GatedCase {
                n_rows,
                width: s.ff_width,
                activation: Activation::Silu,
            }),
        ));
        cases.push((
            "rope_append",
            Box::new(RopeAppendCase {
                heads,
                sequences: vec![Sequence {
                    cached: 0,
                    new: n_rows,
                }],
                norm: false,
                rotation: Some(rotation),
            }),
        ));
        let routing = Routing {
            scoring: Scoring::Softmax,
            groups: None,
            normalise: true,
            scale: 1.0,
        };
        cases.push((
            "moe_route",
            Box::new(MoeRouteCase {
                n_experts,
                top_k: 2,
                routing,
                bias: false,
                ties: false,
                n_rows,
            }),
        ));
        cases.push((
            "moe_matmul",
            Box::new(MoeMatmulCase {
                n_experts,
                top_k: 2,
                parts: vec![
                    (Format::Bf16, bench.pick(1024, 32)),
                    (Format::Bf16, bench.pick(1024, 32)),
                ],
                cols: bench.pick(2048, 256),
                input: Input::Rows,
                bias: false,
                load: Load::Chance,
                n_rows,
            }),
        ));
        cases.push((
            "moe_combine",
            Box::new(MoeCombineCase {
                n_experts,
                top_k: 2,
                width,
                accumulate: false,
                n_rows,
            }),
        ));
    }
    // Decoding from contexts of several lengths, alone and together, and a prompt.
    let attention: &[(usize, usize, usize)] = bench.pick(
        &[(1, 512, 1), (1, 8191, 1), (64, 1023, 1), (1, 0, 2048)],
        &[(1, 40, 1), (2, 0, 20)],
    );
    for &(n_sequences, cached, new) in attention {
        cases.push((
            "attention",
            Box::new(AttentionCase {
                heads,
                sequences: vec![Sequence { cached, new }; n_sequences],
                soft_cap: None,
                mask: Mask::Causal,
                n_shown: n_sequences * new,
            }),
        ));
        cases.push((
            "attend",
            Box::new(AttendCase {
                heads,
                norm: false,
                rotation: Some(rotation),
                sequences: vec![Sequence { cached, new }; n_sequences],
                soft_cap: None,
                mask: Mask::Causal,
            }),
        ));
    }
    cases
}

fn run_case(bench: &Bench, cuda: &Cuda, op: &str, case: &dyn Case<Cuda>) -> Result<()> {
    let cost = case.cost();
    let n_inputs = bench.pick((ROTATED / cost.bytes.max(1)).clamp(2, MAX_INPUTS), 2);
    let mut prepared = (0..n_inputs)
        .map(|_| Ok(case.prepare(cuda)?))
        .collect::<Result<Vec<_>>>()?;
    // Routes check themselves when they are fetched, and there are none yet.
    let before = match op {
        "moe_route" => Vec::new(),
        _ => prepared[0].outputs(cuda)?,
    };
    let (spread, is_recorded) = time(cuda, bench.pick(20, 2), n_inputs, |index| {
        Ok(prepared[index].launch(cuda)?)
    })?;
    let after = prepared[0].outputs(cuda)?;
    // What is rotated in place may stay; all else replaces its output.
    let n_kept = before.iter().zip(&after).filter(|(a, b)| a == b).count();
    let is_written = op == "rope_append" || n_kept * 100 <= after.len();
    ensure!(
        after.iter().all(|y| y.is_finite()) && is_written,
        "{op}, {case:?}: {n_kept} of {} outputs were not written",
        after.len()
    );
    let what = json!({
        "op": op,
        "case": format!("{case:?}"),
        "tokens": case.n_rows(),
        "bytes": cost.bytes,
        "flops": cost.flops,
        "recorded": is_recorded,
    });
    spread.say("op", "us", &what)
}
