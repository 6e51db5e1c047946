//! The reference backend against the formulas of the operations in numpy and float64.
//!
//! `golden/ops/make.py` wrote what should come out; the arguments are computed alike there and
//! here. What the reference says is what every other backend is held to (`parity.rs`), so it
//! is held itself to something that shares no line with it.

use std::collections::BTreeMap;

use onward_kernels::ops::attention::{Attention, Mask};
use onward_kernels::ops::embed::Embed;
use onward_kernels::ops::gated::{Activation, Gated};
use onward_kernels::ops::logits::Logits;
use onward_kernels::ops::matmul::{Matmul, Norm};
use onward_kernels::ops::rms_norm::RmsNorm;
use onward_kernels::ops::rope_append::{Rope, RopeAppend, RopePairs};
use onward_kernels::quant::quantise;
use onward_kernels::{Backend, Batch, Format, KvShape, MatrixSource, Reference};

/// `n` numbers between −1 and 1, exactly those of `make.py`.
fn values(n: usize, seed: usize) -> Vec<f32> {
    let value = |i| ((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.5 - 1.0;
    (0..n).map(|i| value(i) as f32).collect()
}

/// Holds `outputs` to the array `name`: within 2e-6 of its greatest value, some ten roundings.
fn assert_expected(name: &str, outputs: &[f32]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/ops/expected.json");
    let text = std::fs::read_to_string(path).unwrap();
    let arrays: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
    let expected = &arrays[name];
    assert_eq!(outputs.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    for (i, (y, x)) in outputs.iter().zip(expected).enumerate() {
        let error = (y - x).abs() / largest;
        assert!(error <= 2e-6, "{name}, value {i} is {y}, not {x}");
    }
}

/// The 11 × 37 matrix of the goldens, in two parts.
fn matrix(reference: &Reference) -> <Reference as Backend>::Matrix {
    matrix_rows(reference, 11)
}

/// The first rows of that matrix.
fn matrix_rows(reference: &Reference, rows: usize) -> <Reference as Backend>::Matrix {
    let bytes = quantise(Format::F32, &values(rows * 37, 4)).unwrap();
    let (first, second) = bytes.split_at(4 * 37 * 4);
    let part = |name, rows, data| MatrixSource {
        name,
        format: Format::F32,
        rows,
        cols: 37,
        data,
    };
    let parts = [part("first", 4, first), part("second", rows - 4, second)];
    reference.matrix(&parts).unwrap()
}

#[test]
fn embed() {
    let reference = Reference::new();
    let mut out = vec![0.0; 3 * 37];
    let mut batch = Batch::default();
    batch.push(&[10, 0, 3], 0, &[]);
    let op = Embed {
        batch: &batch,
        table: &matrix(&reference),
        scale: 1.5,
        out: &mut out,
    };
    reference.embed(op).unwrap();
    assert_expected("embed", &out);
}

#[test]
fn rms_norm() {
    for (name, accumulate) in [("rms_norm", false), ("rms_norm_accumulate", true)] {
        let mut out = values(3 * 37, 2);
        let op = RmsNorm {
            x: &values(3 * 37, 1),
            weight: &values(37, 3),
            n_rows: 3,
            width: 37,
            epsilon: 1e-2,
            accumulate,
            out: &mut out,
        };
        Reference::new().rms_norm(op).unwrap();
        assert_expected(name, &out);
    }
}

#[test]
fn matmul() {
    let reference = Reference::new();
    let bias = values(11, 5);
    for (name, full) in [("matmul", false), ("matmul_bias_accumulate", true)] {
        let mut out = values(3 * 11, 6);
        let (x, weight) = (values(3 * 37, 1), matrix(&reference));
        let op = Matmul {
            bias: full.then_some(&bias),
            accumulate: full,
            ..Matmul::new(&x, &weight, 3, &mut out)
        };
        reference.matmul(op).unwrap();
        assert_expected(name, &out);
    }
}

#[test]
fn matmul_fused() {
    let reference = Reference::new();
    let (x, weight) = (values(3 * 37, 1), matrix_rows(&reference, 10));
    let (norm_weight, bias) = (values(37, 3), values(11, 5));
    let mut capped = vec![0.0; 3 * 10];
    let mut gated = values(3 * 11, 6)[..15].to_vec();
    for (gate, out) in [(None, &mut capped), (Some(Activation::Silu), &mut gated)] {
        let op = Matmul {
            norm: Some(Norm {
                weight: &norm_weight,
                epsilon: 1e-2,
            }),
            bias: Some(&bias),
            soft_cap: Some(0.8),
            gate,
            accumulate: gate.is_some(),
            ..Matmul::new(&x, &weight, 3, out)
        };
        reference.matmul(op).unwrap();
    }
    assert_expected("matmul_norm_cap", &capped);
    assert_expected("matmul_norm_cap_gate_accumulate", &gated);
}

#[test]
fn gated() {
    let gate_up: Vec<f32> = values(2 * 26, 7).iter().map(|x| 4.0 * x).collect();
    for (name, activation) in [
        ("gated_silu", Activation::Silu),
        ("gated_gelu_tanh", Activation::GeluTanh),
    ] {
        let mut out = vec![0.0; 2 * 13];
        let op = Gated {
            gate_up: &gate_up,
            n_rows: 2,
            width: 13,
            activation,
            out: &mut out,
        };
        Reference::new().gated(op).unwrap();
        assert_expected(name, &out);
    }
}

#[test]
fn logits() {
    let reference = Reference::new();
    for (name, soft_cap) in [("logits", None), ("logits_soft_cap", Some(2.0))] {
        let mut out = vec![0.0; 2 * 11];
        let op = Logits {
            x: &values(3 * 37, 1),
            rows: &[2, 0],
            weight: &matrix(&reference),
            scale: 0.3,
            soft_cap,
            out: &mut out,
        };
        reference.logits(op).unwrap();
        assert_expected(name, &out);
    }
}

/// One attention layer of the goldens.
struct Layer {
    name: &'static str,
    pairs: RopePairs,
    norm: bool,
    mask: Mask,
    soft_cap: Option<f32>,
}

const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const HEAD_DIM: usize = 8;

impl Layer {
    /// Rotated queries and attention of the rows of `batch`.
    fn run(
        &self,
        batch: &Batch,
        mut qkv: Vec<f32>,
        kv: &mut <Reference as Backend>::KvCache,
    ) -> (Vec<f32>, Vec<f32>) {
        let reference = Reference::new();
        let norms = [values(HEAD_DIM, 21), values(HEAD_DIM, 22)];
        let rope = Rope {
            inverse_frequencies: vec![1.0, 0.25, 0.03125],
            attention_factor: 1.25,
            pairs: self.pairs,
        };
        let op = RopeAppend {
            qkv: &mut qkv,
            batch,
            n_heads: N_HEADS,
            n_kv_heads: N_KV_HEADS,
            head_dim: HEAD_DIM,
            q_norm: self.norm.then_some(&norms[0]),
            k_norm: self.norm.then_some(&norms[1]),
            epsilon: 1e-3,
            rope: Some(&rope),
            kv,
            layer: 1,
        };
        reference.rope_append(op).unwrap();
        let mut out = vec![0.0; batch.n_rows() * N_HEADS * HEAD_DIM];
        let op = Attention {
            qkv: &qkv,
            batch,
            kv,
            layer: 1,
            n_heads: N_HEADS,
            n_kv_heads: N_KV_HEADS,
            head_dim: HEAD_DIM,
            scale: 0.7,
            soft_cap: self.soft_cap,
            mask: self.mask,
            out: &mut out,
        };
        reference.attention(op).unwrap();
        let row_width = (N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM;
        let rows = qkv.chunks(row_width);
        let queries = rows.flat_map(|row| row[..N_HEADS * HEAD_DIM].to_vec());
        (queries.collect(), out)
    }
}

/// Sequences of 35 and 3 tokens, the first in two passes that share a page, the second beside
/// it in one of them.
#[test]
fn rope_append_and_attention() {
    for layer in [
        Layer {
            name: "halves_causal",
            pairs: RopePairs::Halves,
            norm: false,
            mask: Mask::Causal,
            soft_cap: None,
        },
        Layer {
            name: "adjacent_norm_window",
            pairs: RopePairs::Adjacent,
            norm: true,
            mask: Mask::Window(7),
            soft_cap: None,
        },
        Layer {
            name: "halves_soft_cap",
            pairs: RopePairs::Halves,
            norm: false,
            mask: Mask::Window(33),
            soft_cap: Some(0.5),
        },
        // The first pass ends with a block of 4; the last blocks are cut off.
        Layer {
            name: "halves_blocks",
            pairs: RopePairs::Halves,
            norm: false,
            mask: Mask::BlockCausal(4),
            soft_cap: None,
        },
    ] {
        let shape = KvShape {
            n_pages: 4,
            layers: vec![(N_KV_HEADS, HEAD_DIM); 2],
        };
        let mut kv = Reference::new().kv_cache(&shape).unwrap();
        let row_width = (N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM;
        let qkv = values(38 * row_width, 20);
        let (first, rest) = qkv.split_at(20 * row_width);

        let mut batch = Batch::default();
        batch.push(&[0; 20], 0, &[3, 1]);
        let (mut queries, mut attended) = layer.run(&batch, first.to_vec(), &mut kv);
        batch.clear();
        batch.push(&[0; 15], 20, &[3, 1]);
        batch.push(&[0; 3], 0, &[2]);
        let (more_queries, more_attended) = layer.run(&batch, rest.to_vec(), &mut kv);
        queries.extend(more_queries);
        attended.extend(more_attended);

        assert_expected(&format!("{}_queries", layer.name), &queries);
        assert_expected(&format!("{}_attention", layer.name), &attended);
    }
}
