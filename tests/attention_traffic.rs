//! What a decode step of attention moves, counted on the emulated device: every byte that is
//! cached once, in whole sectors and without bank conflicts, after `rope_append` or together with it.

use onward_emulator::{Build, Emulator, LaunchCounters};
use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attend::Attend;
use onward_kernels::ops::attention::Mask;
use onward_kernels::ops::rope_append::{Rope, RopePairs};
use onward_kernels::{Backend, Batch, KvShape, PAGE_TOKENS};

const N_TOKENS: usize = 1000;
const N_KV_HEADS: usize = 2;

/// The launches of one decode step: a token after `N_TOKENS` others, by one operation or two.
fn decode(
    emulator: &Emulator,
    kv_type: KvType,
    (n_heads, head_dim): (usize, usize),
    at_once: bool,
) -> Vec<LaunchCounters> {
    let cuda = Cuda::open(0).unwrap().with_kv(kv_type);
    let n_pages = N_TOKENS.div_ceil(PAGE_TOKENS);
    let table: Vec<u32> = (0..n_pages as u32).rev().collect();
    let shape = KvShape {
        n_pages,
        layers: vec![(N_KV_HEADS, head_dim)],
    };
    let mut kv = cuda.kv_cache(&shape).unwrap();
    let rope = Rope {
        inverse_frequencies: (0..head_dim / 2).map(|j| 0.9_f32.powi(j as i32)).collect(),
        attention_factor: 1.0,
        pairs: RopePairs::Halves,
    };
    let norm = cuda.upload(&vec![0.5; head_dim]).unwrap();
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
        let mut out = cuda.buffer(n * n_heads * head_dim).unwrap();
        let mut op = Attend {
            qkv: &mut qkv,
            batch: &batch,
            n_heads,
            n_kv_heads: N_KV_HEADS,
            head_dim,
            q_norm: Some(&norm),
            k_norm: Some(&norm),
            epsilon: 1e-6,
            rope: Some(&rope),
            kv: &mut kv,
            layer: 0,
            scale: 0.1,
            soft_cap: None,
            mask: Mask::Causal,
            out: &mut out,
        };
        if n == 1 && at_once {
            cuda.attend(op).unwrap();
        } else {
            cuda.rope_append(op.rope_append()).unwrap();
            if n == 1 {
                cuda.attention(op.attention()).unwrap();
            }
        }
        let finished = cuda.device().synchronise();
        assert_eq!(emulator.take_report(), None);
        finished.unwrap();
    }
    emulator.take_counters()
}

/// Whole sectors and no bank conflicts, but for instructions of a hundredth of the traffic: the two
/// numbers of a state that go with its sums. Where the halves of a head do not begin at the same bank,
/// some of what turns with each other does; of a launch that attends that is little.
fn assert_efficient(emulator: &Emulator, launch: &LaunchCounters, head_dim: usize, what: &str) {
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
        if site.shared && !head_dim.is_multiple_of(64) && place.contains("rope_append/heads.cuh") {
            continue;
        }
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
        // A line of its own for each key head, groups of 4 and 8 that share one, and one that takes
        // a wide kernel.
        let heads = [
            (2, 64),
            (8, 128),
            (16, 80),
            (8, 96),
            (8, 256),
            (8, 32),
            (40, 96),
        ];
        for ((n_heads, head_dim), at_once) in
            heads.into_iter().flat_map(|h| [(h, false), (h, true)])
        {
            let what = format!("{kv_type:?}, {n_heads} heads of {head_dim}, at once: {at_once}");
            let launches = decode(&emulator, kv_type, (n_heads, head_dim), at_once);
            for launch in &launches {
                println!("{what}: {}", launch.totals);
                assert_efficient(&emulator, launch, head_dim, &what);
            }
            let (decode, before) = launches.split_last().unwrap();
            let before: Vec<&str> = before.iter().map(|launch| launch.kernel.as_str()).collect();
            assert_eq!(before, ["rope_append"][usize::from(at_once)..], "{what}");
            let scales = if kv_type == KvType::Int8 { 4 } else { 0 };
            let cached = 2 * N_TOKENS * N_KV_HEADS * (head_dim * element + scales);
            // Between the blocks of splits goes the state of each, which the last one reads back
            // before it leaves the cache.
            let states = N_TOKENS.div_ceil(256) * n_heads * (head_dim + 2) * 4;
            // The product's keys and values; those of the cache are written, and not read.
            let new = if at_once {
                2 * N_KV_HEADS * head_dim * 4
            } else {
                0
            };
            let needed = cached + states + new + 2 * n_heads * head_dim * 4;
            let moved = decode.totals.memory_read + decode.totals.memory_written;
            let ratio = moved as f64 / needed as f64;
            let banks = decode.totals.shared.bank_efficiency();
            println!("{what}: {ratio:.3} of the bytes that must move, {banks:.3} of the banks");
            assert!(banks >= 0.98, "{what}: {banks}");
            assert!(ratio <= 1.05, "{what}: {ratio}");
        }
    }
}
