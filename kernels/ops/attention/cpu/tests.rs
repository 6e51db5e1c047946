//! Attention, and the cache below it, against f64 loops, and its bits against themselves.

use half::f16;

use super::super::{Attention, Mask};
use crate::backend::{Backend, Batch, KvShape, PAGE_TOKENS};
use crate::cpu::testing::{error, machines, noise};
use crate::cpu::{Buffer, Cpu, Isa};
use crate::ops::rope_append::RopeAppend;

#[derive(Clone, Debug)]
struct Model {
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    soft_cap: Option<f32>,
    mask: Mask,
}

impl Model {
    fn new(n_heads: usize, n_kv_heads: usize, head_dim: usize, mask: Mask) -> Model {
        Model {
            n_heads,
            n_kv_heads,
            head_dim,
            soft_cap: None,
            mask,
        }
    }

    fn width(&self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    fn scale(&self) -> f32 {
        // Sharper than usual, so that single positions count.
        4.0 / (self.head_dim as f32).sqrt()
    }

    /// Queries, keys and values of a sequence.
    fn sequence(&self, seed: u64, len: usize) -> Vec<f32> {
        noise(seed, len * self.width())
    }

    /// The output for all rows of a sequence, in f64, on keys and values rounded to halves.
    fn expected(&self, qkv: &[f32]) -> Vec<f64> {
        let dim = self.head_dim;
        let half =
            |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f16::from_f32(x).to_f64()).collect() };
        let rows: Vec<&[f32]> = qkv.chunks(self.width()).collect();
        let mut out = Vec::new();
        for (t, row) in rows.iter().enumerate() {
            for head in 0..self.n_heads {
                let kv_head = head / (self.n_heads / self.n_kv_heads);
                let query = &row[head * dim..][..dim];
                let mut weights = Vec::new();
                let mut sum = vec![0.0; dim];
                for (p, other) in rows.iter().enumerate() {
                    let seen = match self.mask {
                        Mask::Causal => p <= t,
                        Mask::Window(n) => p <= t && p + n > t,
                        Mask::BlockCausal(n) => p / n <= t / n,
                    };
                    if !seen {
                        continue;
                    }
                    let key = half(&other[(self.n_heads + kv_head) * dim..][..dim]);
                    let score = query.iter().zip(key).map(|(&q, k)| f64::from(q) * k);
                    let mut score = score.sum::<f64>() * f64::from(self.scale());
                    if let Some(cap) = self.soft_cap {
                        score = f64::from(cap) * (score / f64::from(cap)).tanh();
                    }
                    let value = &other[(self.n_heads + self.n_kv_heads + kv_head) * dim..][..dim];
                    let weight = score.exp();
                    weights.push(weight);
                    for (sum, v) in sum.iter_mut().zip(half(value)) {
                        *sum += weight * v;
                    }
                }
                let total: f64 = weights.iter().sum();
                out.extend(sum.iter().map(|sum| sum / total));
            }
        }
        out
    }
}

/// Runs sequences through the backend. `steps` are forward passes of `(sequence, tokens)`.
/// Pages are taken alternately and in an order of no meaning; before, all hold NaN.
fn run(
    cpu: &Cpu,
    model: &Model,
    sequences: &[Vec<f32>],
    steps: &[Vec<(usize, usize)>],
) -> Vec<Vec<f32>> {
    let width = model.width();
    let lens: Vec<usize> = sequences.iter().map(|s| s.len() / width).collect();
    let longest = lens.iter().max().unwrap().div_ceil(PAGE_TOKENS);
    let n_pages = longest * sequences.len();
    let shape = KvShape {
        n_pages,
        layers: vec![(1, 8), (model.n_kv_heads, model.head_dim)],
    };
    let mut kv = cpu.kv_cache(&shape).unwrap();
    kv.fill(f16::NAN);
    let table = |sequence: usize| -> Vec<u32> {
        let page = |i| (i * sequences.len() + sequence) * 7 % n_pages;
        let coprime = !n_pages.is_multiple_of(7);
        let simple = |i| i * sequences.len() + sequence;
        (0..longest)
            .map(|i| if coprime { page(i) } else { simple(i) } as u32)
            .collect()
    };
    let mut done = vec![0; sequences.len()];
    let mut outputs = vec![Vec::new(); sequences.len()];
    for step in steps {
        let mut batch = Batch::default();
        let mut qkv = Vec::new();
        for &(sequence, n) in step {
            let first = done[sequence];
            batch.push(&vec![0; n], first, &table(sequence));
            qkv.extend(&sequences[sequence][first * width..(first + n) * width]);
        }
        let mut qkv = cpu.upload(&qkv).unwrap();
        let out_width = model.n_heads * model.head_dim;
        let mut out = cpu.buffer(batch.n_rows() * out_width).unwrap();
        append(cpu, model, &batch, &mut qkv, &mut kv);
        cpu.attention(Attention {
            qkv: &qkv,
            batch: &batch,
            kv: &kv,
            layer: 1,
            n_heads: model.n_heads,
            n_kv_heads: model.n_kv_heads,
            head_dim: model.head_dim,
            scale: model.scale(),
            soft_cap: model.soft_cap,
            mask: model.mask,
            out: &mut out,
        })
        .unwrap();
        let mut rows = out.chunks(out_width);
        for &(sequence, n) in step {
            done[sequence] += n;
            outputs[sequence].extend(rows.by_ref().take(n).flatten());
        }
    }
    assert_eq!(done, lens);
    outputs
}

fn append(
    cpu: &Cpu,
    model: &Model,
    batch: &Batch,
    qkv: &mut Buffer,
    kv: &mut <Cpu as Backend>::KvCache,
) {
    cpu.rope_append(RopeAppend {
        qkv,
        batch,
        n_heads: model.n_heads,
        n_kv_heads: model.n_kv_heads,
        head_dim: model.head_dim,
        q_norm: None,
        k_norm: None,
        epsilon: 0.0,
        rope: None,
        kv,
        layer: 1,
    })
    .unwrap();
}

fn bits(outputs: &[f32]) -> Vec<u32> {
    outputs.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn it_agrees_with_f64_loops() {
    let capped = |mut model: Model, cap| {
        model.soft_cap = Some(cap);
        model
    };
    let cases = [
        (Model::new(1, 1, 16, Mask::Causal), 1),
        (Model::new(1, 1, 8, Mask::Causal), 70),
        (Model::new(3, 3, 24, Mask::Window(5)), 75),
        (Model::new(4, 1, 256, Mask::Window(40)), 100),
        (Model::new(14, 2, 64, Mask::Causal), 300),
        (Model::new(12, 2, 128, Mask::Causal), 64),
        (Model::new(5, 1, 80, Mask::Window(1)), 33),
        (Model::new(16, 1, 32, Mask::Window(300)), 310),
        (Model::new(4, 2, 32, Mask::BlockCausal(5)), 64),
        (Model::new(14, 2, 64, Mask::BlockCausal(100)), 270),
        (capped(Model::new(2, 1, 40, Mask::Causal), 2.0), 70),
    ];
    for cpu in machines() {
        for (model, len) in &cases {
            let sequence = model.sequence(5, *len);
            let want = model.expected(&sequence);
            let got = run(&cpu, model, &[sequence], &[vec![(0, *len)]]);
            let error = error(&got[0], &want);
            assert!(error < 4e-6, "{model:?} {:?}: {error:e}", cpu.isa());
        }
    }
}

#[test]
fn bits_do_not_depend_on_company_or_chunks_or_threads() {
    const LEN: usize = 600;
    let lens = [LEN, 64, 7, 300];
    let models = [
        Model::new(14, 2, 64, Mask::Causal),
        Model::new(4, 1, 32, Mask::Window(20)),
        Model::new(3, 3, 24, Mask::Window(270)),
        Model::new(6, 1, 256, Mask::Causal),
    ];
    for isa in Isa::available() {
        // The instruction sets share all that decides the order, so one runs all models.
        let n_models = if isa == Isa::detect() {
            models.len()
        } else {
            1
        };
        for model in &models[..n_models] {
            let sequences: Vec<Vec<f32>> = (lens.iter().enumerate())
                .map(|(i, &len)| model.sequence(i as u64 + 1, len))
                .collect();
            let one = Cpu::with_isa(1, isa).unwrap();
            let whole = run(&one, model, &sequences[..1], &[vec![(0, LEN)]]);
            let want = bits(&whole[0]);
            let token_by_token = vec![vec![(0, 1)]; LEN];
            let odd: Vec<_> = [1, 31, 33, 7, 250, 5, 273].map(|n| vec![(0, n)]).into();
            let together = vec![
                vec![(1, 60), (0, 500), (3, 290)],
                vec![(0, 1), (1, 1), (3, 1), (2, 7)],
                vec![(1, 3), (3, 9), (0, 99)],
            ];
            for n_threads in [1, 3] {
                let cpu = Cpu::with_isa(n_threads, isa).unwrap();
                let about = format!("{model:?} {isa:?} {n_threads} threads");
                for steps in [&token_by_token, &odd] {
                    let got = run(&cpu, model, &sequences[..1], steps);
                    assert!(bits(&got[0]) == want, "{about}, {} steps", steps.len());
                }
                let got = run(&cpu, model, &sequences, &together);
                assert!(bits(&got[0]) == want, "{about}, in company");
            }
        }
    }
}
