//! What the sampling kernels read: the vocabulary at most four times, whatever the logits and the
//! parameters, and coalesced.

use onward_emulator::{Access, Build, Emulator, LaunchCounters};
use onward_kernels::Backend;
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::sample::philox::noise;
use onward_kernels::ops::sample::{Sample, SampleRow, SamplingParams};

/// Eight tiles of 8192 tokens.
const VOCAB: usize = 65_536;
/// Bytes of one pass.
const PASS: u64 = 4 * VOCAB as u64;
/// The tile that holds the token drawn is read once more.
const TILE: u64 = PASS / 8;

/// What a step does with one row.
fn count(
    emulator: &Emulator,
    logits: &[f32],
    row: SampleRow<'_>,
    n_top: usize,
) -> Vec<LaunchCounters> {
    let cuda = Cuda::open(0).unwrap();
    let logits = cuda.upload(logits).unwrap();
    emulator.take_counters();
    let drawn = cuda.sample(Sample {
        logits: &logits,
        vocab: VOCAB,
        rows: &[row],
        n_top,
    });
    let mut drawn = drawn.unwrap_or_else(|error| panic!("{error}: {:?}", emulator.take_report()));
    drawn.remove(0).unwrap();
    let mut launches = emulator.take_counters();
    launches.retain(|launch| launch.kernel != "sample_start");
    assert_eq!(launches.len(), 4);
    launches
}

/// Bytes read 16 at a time by a lane: the logits, and hardly anything else.
fn wide_bytes(launch: &LaunchCounters) -> u64 {
    let sites = launch.sites.iter();
    sites
        .filter(|site| site.access == Access::Load && !site.shared && site.width == 16)
        .map(|site| site.traffic.bytes)
        .sum()
}

/// Sets of parameters and the passes over the vocabulary that each needs without a list of the
/// most probable tokens.
fn sets() -> Vec<(SamplingParams, u64)> {
    let plain = SamplingParams::plain(SamplingParams::default().temperature);
    let top_k = |top_k| SamplingParams {
        top_k,
        ..plain.clone()
    };
    let both = |k, top_p| SamplingParams { top_p, ..top_k(k) };
    let adjusted = SamplingParams {
        presence_penalty: 0.5,
        logit_bias: vec![(7, 1.0)],
        ..plain.clone()
    };
    vec![
        (SamplingParams::greedy(), 2),
        (plain.clone(), 2),
        (adjusted, 2),
        (SamplingParams::default(), 4),
        (both(0, 0.9), 4),
        (top_k(VOCAB - 1), 4),
        (both(VOCAB / 2, 0.5), 4),
    ]
}

#[test]
fn four_passes_are_enough_and_coalesced() {
    let emulator = Emulator::install(Build::Counted).unwrap();
    let uniform = |i: u64| (noise(1, i) >> 40) as f32 / (1 << 24) as f32;
    let normal = |i: u64| (0..4).map(|k| uniform(4 * i + k)).sum::<f32>() * 6.0;
    let random: Vec<f32> = (0..VOCAB as u64).map(normal).collect();
    let ties: Vec<f32> = random.iter().map(|logit| logit.round()).collect();
    let mask = vec![!2u32; VOCAB / 32];
    for (name, logits) in [
        ("random", random),
        ("ties", ties),
        ("flat", vec![0.5; VOCAB]),
    ] {
        for (params, n_passes) in sets() {
            for (allowed, n_top) in [(None, 0), (Some(mask.as_slice()), 20)] {
                let row = SampleRow {
                    params: &params,
                    history: &[1, 2, 3],
                    position: 5,
                    allowed,
                };
                let launches = count(&emulator, &logits, row, n_top);
                let n_passes = if n_top > 0 { 4 } else { n_passes };
                let read: u64 = launches.iter().map(wide_bytes).sum();
                assert!(
                    read >= n_passes * PASS && read <= n_passes * PASS + TILE + PASS / 50,
                    "{name}, {params:?}: {:.2} passes, not {n_passes}",
                    read as f64 / PASS as f64
                );
                for launch in launches {
                    let coalescing = launch.totals.read.coalescing();
                    println!("{name}: {}", launch.totals);
                    assert!(
                        coalescing > 0.95,
                        "{name}, {params:?}: {} coalesces {coalescing}, worst at {:?}",
                        launch.kernel,
                        launch.worst_coalesced().map(|site| emulator.locate(site))
                    );
                }
            }
        }
    }
}
