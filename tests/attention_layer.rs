//! One layer's attention over several forward passes, for tests of what its bits depend on.

use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attention::{Attention, Mask};
use onward_kernels::ops::rope_append::{Rope, RopeAppend, RopePairs};
use onward_kernels::{Backend, Batch, KvShape, PAGE_TOKENS};

/// One layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Elements a head.
    pub head_dim: usize,
    /// Bound of the scores.
    pub soft_cap: Option<f32>,
    /// Which positions a row sees.
    pub mask: Mask,
    /// How keys and values are stored.
    pub kv_type: KvType,
}

impl Layer {
    /// A layer of `(n_heads, n_kv_heads, head_dim)` without a bound of its scores.
    pub const fn new(heads: (usize, usize, usize), mask: Mask, kv_type: KvType) -> Self {
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
pub type Steps = Vec<Vec<(usize, usize)>>;

/// The outputs of each sequence's rows after the passes. Pages are dealt out in turn. The caches of
/// `cuda` store what the layer's do.
///
/// # Panics
/// If the device fails, or the passes are not whole sequences.
pub fn run(cuda: &Cuda, layer: &Layer, lens: &[usize], steps: &Steps) -> Vec<Vec<f32>> {
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
pub fn chunks(len: usize, n: usize) -> Steps {
    let starts = (0..len).step_by(n);
    starts.map(|start| vec![(0, n.min(len - start))]).collect()
}
