//! Tests of sampling: its numbers, the fast path against the sorting reference, the
//! distribution of the draws, and the errors.

mod agreement;
mod distribution;
mod errors;
mod numbers;

use super::philox::noise;
use super::*;

/// A uniform number in 0..1 for each `(stream, i)`.
fn uniform(stream: u64, i: u64) -> f32 {
    (noise(stream, i) >> 40) as f32 / (1 << 24) as f32
}

/// A row of roughly normal logits of standard deviation `spread`.
fn normal_row(stream: u64, n_vocab: usize, spread: f32) -> Vec<f32> {
    let normal = |i: u64| (0..6).map(|k| uniform(stream, 6 * i + k)).sum::<f32>() - 3.0;
    (0..n_vocab as u64)
        .map(|i| normal(i) * spread * 2f32.sqrt())
        .collect()
}

/// Nothing but the temperature.
fn plain(temperature: f32) -> SamplingParams {
    SamplingParams {
        temperature,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        ..SamplingParams::default()
    }
}
