//! Copied pages of the KV cache hold what the pages they were copied from hold: in every layer,
//! keys and values, on every backend.

use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attention::{Attention, Mask};
use onward_kernels::ops::rope_append::RopeAppend;
use onward_kernels::{Backend, Batch, Cpu, KvShape, PAGE_TOKENS, Reference};
use onward_tests::device::TestDevice;

const LAYERS: [(usize, usize); 2] = [(2, 64), (1, 80)];
const N_TOKENS: usize = PAGE_TOKENS + 9;

fn noise(seed: usize, len: usize) -> Vec<f32> {
    let value = |i: usize| (i * 7919 + seed * 104_729) * 31 % 4001;
    (0..len).map(|i| value(i) as f32 / 1000.25 - 2.0).collect()
}

fn batch(pages: &[u32]) -> Batch {
    let mut batch = Batch::default();
    batch.push(&[0; N_TOKENS], 0, pages);
    batch
}

/// Writes a sequence of noise to `pages`.
fn append<B: Backend>(backend: &B, kv: &mut B::KvCache, seed: usize, pages: &[u32]) {
    for (layer, (n_kv_heads, head_dim)) in LAYERS.into_iter().enumerate() {
        let width = 3 * n_kv_heads * head_dim;
        let values = noise(seed + layer, N_TOKENS * width);
        backend
            .rope_append(RopeAppend {
                qkv: &mut backend.upload(&values).unwrap(),
                batch: &batch(pages),
                n_heads: n_kv_heads,
                n_kv_heads,
                head_dim,
                q_norm: None,
                k_norm: None,
                epsilon: 1e-6,
                rope: None,
                kv,
                layer,
            })
            .unwrap();
    }
}

/// The bits of attention over `pages`, all layers one after the other.
fn attend<B: Backend>(backend: &B, kv: &B::KvCache, pages: &[u32]) -> Vec<u32> {
    let mut bits = Vec::new();
    for (layer, (n_kv_heads, head_dim)) in LAYERS.into_iter().enumerate() {
        let width = n_kv_heads * head_dim;
        let mut out = backend.buffer(N_TOKENS * width).unwrap();
        backend
            .attention(Attention {
                qkv: &backend.upload(&noise(9, N_TOKENS * 3 * width)).unwrap(),
                batch: &batch(pages),
                kv,
                layer,
                n_heads: n_kv_heads,
                n_kv_heads,
                head_dim,
                scale: 0.1,
                soft_cap: None,
                mask: Mask::Causal,
                out: &mut out,
            })
            .unwrap();
        let mut values = vec![0.0; N_TOKENS * width];
        backend
            .download(&out, 0..values.len(), &mut values)
            .unwrap();
        bits.extend(values.into_iter().map(f32::to_bits));
    }
    bits
}

fn copies_are_the_same<B: Backend>(backend: &B) {
    let shape = KvShape {
        n_pages: 7,
        layers: LAYERS.to_vec(),
    };
    let mut kv = backend.kv_cache(&shape).unwrap();
    for (seed, pages) in [(1, [0, 1]), (2, [2, 3]), (3, [4, 5])] {
        append(backend, &mut kv, 10 * seed, &pages);
    }
    let [first, second, third] = [[0, 1], [2, 3], [4, 5]].map(|pages| attend(backend, &kv, &pages));
    assert!(first != second && second != third && first != third);

    // Page 2 goes on to page 6 as it was when page 0 was copied to it.
    backend
        .copy_pages(&mut kv, &[(0, 2), (1, 3), (2, 6)])
        .unwrap();
    for pages in [[0, 1], [2, 3], [2, 1], [6, 3]] {
        assert!(attend(backend, &kv, &pages) == first, "{pages:?}");
    }
    assert!(attend(backend, &kv, &[4, 5]) == third);

    let error = backend.copy_pages(&mut kv, &[(0, 1), (3, 7)]).unwrap_err();
    assert_eq!(error.to_string(), "there is no page 7 in a cache of 7");
    assert!(attend(backend, &kv, &[4, 5]) == third);
}

#[test]
fn copied_pages_hold_the_same() {
    copies_are_the_same(&Reference::new());
    copies_are_the_same(&Cpu::new(2).unwrap());
    let _device = TestDevice::install();
    copies_are_the_same(&Cuda::open(0).unwrap());
    copies_are_the_same(&Cuda::open(0).unwrap().with_kv(KvType::Int8));
}
