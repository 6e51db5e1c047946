//! Attention on the emulated device: the promise that a row has the same bits whole, in chunks,
//! decoded one by one or in company, and a cache of 8 bits.

use onward_emulator::{Build, Emulator, SCHEDULES};
use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attention::{Attention, Mask};
use onward_kernels::ops::rope_append::{Rope, RopeAppend, RopePairs};
use onward_kernels::{Backend, Batch, KvShape, PAGE_TOKENS};
use onward_tests::agreement::{
    assert_agrees, assert_rows_stand_alone, first_difference, reference_outputs,
};

/// One layer.
#[derive(Clone, Copy, Debug)]
struct Layer {
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    soft_cap: Option<f32>,
    mask: Mask,
    kv_type: KvType,
}

impl Layer {
    const fn new(heads: (usize, usize, usize), mask: Mask, kv_type: KvType) -> Self {
        Self {
            n_heads: heads.0,
            n_kv_heads: heads.1,
            head_dim: heads.2,
            soft_cap: None,
            mask,
            kv_type,
        }
    }

    fn width(&self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }
}

/// Numbers between −2 and 2, of no meaning.
fn noise(seed: usize, len: usize) -> Vec<f32> {
    let value = |i: usize| (i * 7919 + seed * 104_729) * 31 % 4001;
    (0..len).map(|i| value(i) as f32 / 1000.25 - 2.0).collect()
}

/// Forward passes, each of `(sequence, tokens)`.
type Steps = Vec<Vec<(usize, usize)>>;

/// The outputs of each sequence's rows after the passes. Pages are dealt out in turn.
fn run(layer: &Layer, lens: &[usize], steps: &Steps) -> Vec<Vec<f32>> {
    let cuda = Cuda::open(0).unwrap().with_kv(layer.kv_type);
    let longest = lens.iter().max().unwrap().div_ceil(PAGE_TOKENS);
    let shape = KvShape {
        n_pages: longest * lens.len(),
        layers: vec![(layer.n_kv_heads, layer.head_dim)],
    };
    let mut kv = cuda.kv_cache(&shape).unwrap();
    let rope = Rope {
        inverse_frequencies: vec![1.0, 0.1, 0.01],
        attention_factor: 1.0,
        pairs: RopePairs::Halves,
    };
    let width = layer.width();
    let tokens: Vec<Vec<f32>> = (0..lens.len()).map(|i| noise(i, lens[i] * width)).collect();
    let mut done = vec![0; lens.len()];
    let mut outputs = vec![Vec::new(); lens.len()];
    for step in steps {
        let mut batch = Batch::default();
        let mut qkv = Vec::new();
        for &(sequence, n) in step {
            let first = done[sequence];
            let page = |i| (i * lens.len() + sequence) as u32;
            let table: Vec<u32> = (0..longest).map(page).collect();
            batch.push(&vec![0; n], first, &table);
            qkv.extend(&tokens[sequence][first * width..(first + n) * width]);
        }
        let mut qkv = cuda.upload(&qkv).unwrap();
        let out_width = layer.n_heads * layer.head_dim;
        let mut out = cuda.buffer(batch.n_rows() * out_width).unwrap();
        cuda.rope_append(RopeAppend {
            qkv: &mut qkv,
            batch: &batch,
            n_heads: layer.n_heads,
            n_kv_heads: layer.n_kv_heads,
            head_dim: layer.head_dim,
            q_norm: None,
            k_norm: None,
            epsilon: 0.0,
            rope: Some(&rope),
            kv: &mut kv,
            layer: 0,
        })
        .unwrap();
        cuda.attention(Attention {
            qkv: &qkv,
            batch: &batch,
            kv: &kv,
            layer: 0,
            n_heads: layer.n_heads,
            n_kv_heads: layer.n_kv_heads,
            head_dim: layer.head_dim,
            scale: 2.0 / (layer.head_dim as f32).sqrt(),
            soft_cap: layer.soft_cap,
            mask: layer.mask,
            out: &mut out,
        })
        .unwrap();
        let mut values = vec![0.0; batch.n_rows() * out_width];
        cuda.download(&out, 0..values.len(), &mut values).unwrap();
        let mut rows = values.chunks(out_width);
        for &(sequence, n) in step {
            done[sequence] += n;
            outputs[sequence].extend(rows.by_ref().take(n).flatten());
        }
    }
    assert_eq!(done, lens);
    outputs
}

/// A sequence of `len` tokens in chunks of `n`, the last of what is left.
fn chunks(len: usize, n: usize) -> Steps {
    let starts = (0..len).step_by(n);
    starts.map(|start| vec![(0, n.min(len - start))]).collect()
}

#[test]
fn bits_do_not_depend_on_chunks_or_company() {
    const LEN: usize = 300;
    Emulator::install(Build::Optimised).unwrap();
    let capped = Layer {
        soft_cap: Some(3.0),
        ..Layer::new((4, 1, 256), Mask::Causal, KvType::Bf16)
    };
    for layer in [
        Layer::new((14, 2, 64), Mask::Causal, KvType::Bf16),
        Layer::new((3, 3, 24), Mask::Window(20), KvType::Bf16),
        Layer::new((2, 1, 192), Mask::Window(270), KvType::Int8),
        Layer::new((8, 1, 80), Mask::Causal, KvType::Int8),
        capped,
    ] {
        let whole = run(&layer, &[LEN], &vec![vec![(0, LEN)]]).remove(0);
        assert!(whole.iter().all(|x| x.is_finite()));
        // 1, 5 and 16 rows are decoded, 17 and 64 are not.
        for n in [1, 5, 16, 17, 64] {
            let outputs = run(&layer, &[LEN], &chunks(LEN, n)).remove(0);
            let difference = first_difference(&outputs, &whole);
            assert_eq!(difference, None, "{layer:?} in chunks of {n}");
        }
        let together = vec![
            vec![(1, 60), (0, 200), (2, 3)],
            vec![(2, 1), (0, 1), (1, 1)],
            vec![(1, 9), (2, 20), (0, 99)],
        ];
        let outputs = run(&layer, &[LEN, 70, 24], &together).remove(0);
        let difference = first_difference(&outputs, &whole);
        assert_eq!(difference, None, "{layer:?} in company");
    }
}

#[test]
fn eight_bits_agree_within_their_own_rounding() {
    let emulator = Emulator::install(Build::Optimised).unwrap();
    let cuda = Cuda::open(0).unwrap().with_kv(KvType::Int8);
    for op in ["rope_append", "attention"] {
        let expected = reference_outputs(op);
        for (order, copies) in SCHEDULES {
            emulator.set_schedule(order, copies);
            let what = format!("emulated, 8 bits ({order:?}, {copies:?})");
            assert_agrees(&what, op, &cuda, &expected);
            assert_eq!(emulator.take_report(), None);
        }
        assert_rows_stand_alone("emulated, 8 bits", op, &cuda);
    }
}
