//! What a decode step of attention moves, counted on the emulated device: every byte that is
//! cached once, in whole sectors and without bank conflicts.

use onward_emulator::{Build, Emulator, LaunchCounters};
use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attention::{Attention, Mask};
use onward_kernels::ops::rope_append::RopeAppend;
use onward_kernels::{Backend, Batch, KvShape, PAGE_TOKENS};

const N_TOKENS: usize = 1000;
const N_KV_HEADS: usize = 2;

/// The launches of one decode step: a token after `N_TOKENS` others.
fn decode(
    emulator: &Emulator,
    kv_type: KvType,
    n_heads: usize,
    head_dim: usize,
) -> Vec<LaunchCounters> {
    let cuda = Cuda::open(0).unwrap().with_kv(kv_type);
    let n_pages = N_TOKENS.div_ceil(PAGE_TOKENS);
    let table: Vec<u32> = (0..n_pages as u32).rev().collect();
    let shape = KvShape {
        n_pages,
        layers: vec![(N_KV_HEADS, head_dim)],
    };
    let mut kv = cuda.kv_cache(&shape).unwrap();
    let width = (n_heads + 2 * N_KV_HEADS) * head_dim;
    let mut batch = Batch::default();
    for (position, n) in [(0, N_TOKENS - 1), (N_TOKENS - 1, 1)] {
        batch.clear();
        batch.push(&vec![0; n], position, &table);
        emulator.take_counters();
        let values: Vec<f32> = (0..n * width)
            .map(|i| (i % 97) as f32 / 50.0 - 1.0)
            .collect();
        let mut qkv = cuda.upload(&values).unwrap();
        cuda.rope_append(RopeAppend {
            qkv: &mut qkv,
            batch: &batch,
            n_heads,
            n_kv_heads: N_KV_HEADS,
            head_dim,
            q_norm: None,
            k_norm: None,
            epsilon: 0.0,
            rope: None,
            kv: &mut kv,
            layer: 0,
        })
        .unwrap();
        if n == 1 {
            let mut out = cuda.buffer(n_heads * head_dim).unwrap();
            cuda.attention(Attention {
                qkv: &qkv,
                batch: &batch,
                kv: &kv,
                layer: 0,
                n_heads,
                n_kv_heads: N_KV_HEADS,
                head_dim,
                scale: 0.1,
                soft_cap: None,
                mask: Mask::Causal,
                out: &mut out,
            })
            .unwrap();
        }
        cuda.device().synchronise().unwrap();
    }
    emulator.take_counters()
}

/// Whole sectors and no bank conflicts, but for instructions of a hundredth of the traffic: the two
/// numbers of a state that go with its sums.
fn assert_efficient(emulator: &Emulator, launch: &LaunchCounters, what: &str) {
    let totals = &launch.totals;
    let sectors = (totals.read.sectors + totals.written.sectors) / 100;
    let wavefronts = totals.shared.wavefronts / 100;
    for site in &launch.sites {
        let (efficiency, share) = match site.shared {
            true => (
                site.traffic.bank_efficiency(),
                site.traffic.wavefronts > wavefronts,
            ),
            false => (site.traffic.coalescing(), site.traffic.sectors > sectors),
        };
        let place = emulator.locate(site);
        assert!(
            !share || efficiency >= 0.95,
            "{what}, {place}: {efficiency}"
        );
    }
}

#[test]
fn a_decode_step_reads_the_cache_once() {
    let emulator = Emulator::install(Build::Counted).unwrap();
    for (kv_type, element) in [(KvType::Bf16, 2), (KvType::Int8, 1)] {
        // A line of its own for each key head, and groups of 4 and 8 that share one.
        for (n_heads, head_dim) in [(2, 64), (8, 128), (16, 80), (8, 256)] {
            let what = format!("{kv_type:?}, {n_heads} heads of {head_dim}");
            let launches = decode(&emulator, kv_type, n_heads, head_dim);
            launches
                .iter()
                .for_each(|launch| println!("{what}: {}", launch.totals));
            let [append, decode] = launches.as_slice() else {
                panic!("{what}: {} launches", launches.len());
            };
            assert_eq!(append.kernel, "rope_append");
            for launch in &launches {
                assert_efficient(&emulator, launch, &what);
            }
            let scales = if kv_type == KvType::Int8 { 4 } else { 0 };
            let cached = 2 * N_TOKENS * N_KV_HEADS * (head_dim * element + scales);
            // Between the blocks of splits goes the state of each, which the last one reads back
            // before it leaves the cache.
            let states = N_TOKENS.div_ceil(256) * n_heads * (head_dim + 2) * 4;
            let needed = cached + states + 2 * n_heads * head_dim * 4;
            let moved = decode.totals.memory_read + decode.totals.memory_written;
            let ratio = moved as f64 / needed as f64;
            println!("{what}: {ratio:.3} of the bytes that must move");
            assert!(ratio <= 1.05, "{what}: {ratio}");
        }
    }
}
