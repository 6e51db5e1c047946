//! Norm, rotation and what is stored, against f64 loops.

use half::f16;

use super::super::{Rope, RopeAppend, RopePairs};
use crate::backend::{Backend, Batch, KvShape};
use crate::cpu::testing::{error, machines, noise};
use crate::cpu::{Cpu, KvCache};

const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const LAYER: usize = 1;

/// Rows of `(page, slot, position)`: three sequences, pages in no order.
fn batch(n: usize) -> (Batch, Vec<(u32, usize, usize)>) {
    let mut batch = Batch::default();
    let tables: [&[u32]; 3] = [
        &[4, 0, 7],
        &[9, 2],
        &[1, 8, 3, 6, 5, 10, 11, 12, 13, 14, 15],
    ];
    let mut places = Vec::new();
    for (table, first, len) in [(tables[0], 30, 4), (tables[1], 63, 1), (tables[2], 33, n)] {
        batch.push(&vec![0; len], first, table);
        places.extend((first..first + len).map(|p| (table[p / 32], p % 32, p)));
    }
    (batch, places)
}

fn expected(row: &mut [f64], head_dim: usize, norms: [&[f32]; 2], rope: &Rope, position: usize) {
    let n = rope.inverse_frequencies.len();
    for (head, x) in row
        .chunks_mut(head_dim)
        .take(N_HEADS + N_KV_HEADS)
        .enumerate()
    {
        let norm = norms[usize::from(head >= N_HEADS)];
        if !norm.is_empty() {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
            for (x, &weight) in x.iter_mut().zip(norm) {
                *x *= f64::from(weight) / (mean + 1e-6).sqrt();
            }
        }
        for (j, &frequency) in rope.inverse_frequencies.iter().enumerate() {
            // The angle is defined in f32.
            let angle = f64::from(position as f32 * frequency);
            let (i, k) = match rope.pairs {
                RopePairs::Halves => (j, j + n),
                RopePairs::Adjacent => (2 * j, 2 * j + 1),
            };
            let (a, b) = (x[i], x[k]);
            let factor = f64::from(rope.attention_factor);
            x[i] = (a * angle.cos() - b * angle.sin()) * factor;
            x[k] = (b * angle.cos() + a * angle.sin()) * factor;
        }
    }
}

/// Reads a stored key and value by the layout that the cache documents.
fn read(kv: &KvCache, (page, slot): (u32, usize), head: usize, dim: usize) -> Vec<f16> {
    let (keys, values) = kv.head(LAYER, page, head);
    let key = (0..dim).map(|d| keys[slot / 16 * dim + d].0[slot % 16]);
    key.chain((0..dim).map(|d| values[d / 16 * 32 + slot].0[d % 16]))
        .collect()
}

fn check(cpu: &Cpu, n: usize, head_dim: usize, n_frequencies: usize, pairs: RopePairs) {
    let (batch, places) = batch(n);
    let width = (N_HEADS + 2 * N_KV_HEADS) * head_dim;
    let before: Vec<f32> = (noise(6, batch.n_rows() * width).iter())
        .map(|x| x * 3.0)
        .collect();
    let rope = Rope {
        inverse_frequencies: (0..n_frequencies)
            .map(|j| 1e4_f32.powf(-(j as f32) / n_frequencies as f32))
            .collect(),
        attention_factor: 1.25,
        pairs,
    };
    let norm = noise(7, head_dim);
    let mut kv = cpu
        .kv_cache(&KvShape {
            n_pages: 16,
            layers: vec![(1, 16), (N_KV_HEADS, head_dim)],
        })
        .unwrap();
    let mut qkv = cpu.upload(&before).unwrap();
    let norm_buffer = cpu.upload(&norm).unwrap();
    cpu.rope_append(RopeAppend {
        qkv: &mut qkv,
        batch: &batch,
        n_heads: N_HEADS,
        n_kv_heads: N_KV_HEADS,
        head_dim,
        q_norm: None,
        k_norm: Some(&norm_buffer),
        epsilon: 1e-6,
        rope: Some(&rope),
        kv: &mut kv,
        layer: LAYER,
    })
    .unwrap();
    for (row, &(page, slot, position)) in places.iter().enumerate() {
        let got = &qkv[row * width..(row + 1) * width];
        let start = &before[row * width..(row + 1) * width];
        let mut want: Vec<f64> = start.iter().map(|&x| x.into()).collect();
        expected(&mut want, head_dim, [&[], &norm], &rope, position);
        let error = error(got, &want);
        assert!(
            error < 1e-6,
            "{pairs:?} {head_dim} {:?}: {error:e}",
            cpu.isa()
        );
        let heads: Vec<&[f32]> = got.chunks(head_dim).collect();
        for head in 0..N_KV_HEADS {
            let key = heads[N_HEADS + head].iter();
            let value = heads[N_HEADS + N_KV_HEADS + head].iter();
            let want: Vec<f16> = key.chain(value).map(|&x| f16::from_f32(x)).collect();
            assert_eq!(read(&kv, (page, slot), head, head_dim), want);
        }
    }
}

#[test]
fn it_agrees_with_f64_loops() {
    for cpu in machines() {
        for pairs in [RopePairs::Halves, RopePairs::Adjacent] {
            for (n, head_dim, n_frequencies) in [
                (1, 16, 8),
                (7, 64, 32),
                (64, 24, 5),
                (300, 256, 128),
                (2, 80, 0),
            ] {
                check(&cpu, n, head_dim, n_frequencies, pairs);
            }
        }
    }
}

#[test]
fn what_is_too_large_for_a_half_is_stored_as_the_largest() {
    let cpu = Cpu::new(1).unwrap();
    let layers = vec![(0, 16), (1, 8)];
    let mut kv = cpu.kv_cache(&KvShape { n_pages: 1, layers }).unwrap();
    let mut batch = Batch::default();
    batch.push(&[0], 17, &[0]);
    let mut qkv = cpu
        .upload(&[[0.0; 8], [1e6; 8], [-1e6; 8]].concat())
        .unwrap();
    cpu.rope_append(RopeAppend {
        qkv: &mut qkv,
        batch: &batch,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 8,
        q_norm: None,
        k_norm: None,
        epsilon: 0.0,
        rope: None,
        kv: &mut kv,
        layer: LAYER,
    })
    .unwrap();
    let want = [[f16::MAX; 8], [f16::MIN; 8]].concat();
    assert_eq!(read(&kv, (0, 17), 0, 8), want);
}
