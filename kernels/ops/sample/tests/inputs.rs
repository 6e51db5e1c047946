//! Logits, masks and parameters that tests of sampling draw at random: of the fast path here, and
//! of the kernels in the tests' own crate, which takes this file as it is.

use proptest::prelude::*;

use super::{SamplingParams, noise};

/// A uniform number in 0..1 for each `(stream, i)`.
pub(super) fn uniform(stream: u64, i: u64) -> f32 {
    (noise(stream, i) >> 40) as f32 / (1 << 24) as f32
}

/// A row of roughly normal logits of standard deviation `spread`.
pub(super) fn normal_row(stream: u64, n_vocab: usize, spread: f32) -> Vec<f32> {
    let normal = |i: u64| (0..6).map(|k| uniform(stream, 6 * i + k)).sum::<f32>() - 3.0;
    (0..n_vocab as u64)
        .map(|i| normal(i) * spread * 2f32.sqrt())
        .collect()
}

/// The same in steps of `1 / levels`, so that there are many ties or few, a share of them −inf but
/// one never.
pub(super) fn row(
    stream: u64,
    n_vocab: usize,
    spread: f32,
    levels: f32,
    forbidden: f32,
) -> Vec<f32> {
    let mut row = normal_row(stream, n_vocab, spread);
    for (i, logit) in row.iter_mut().enumerate() {
        *logit = (*logit * levels).round() / levels;
        if uniform(!stream, i as u64) < forbidden {
            *logit = f32::NEG_INFINITY;
        }
    }
    row[open(stream, n_vocab)] = 0.25;
    row
}

/// About half of the tokens, and the one that is never −inf.
pub(super) fn mask(stream: u64, n_vocab: usize) -> Vec<u32> {
    let words = 0..n_vocab.div_ceil(32) as u64;
    let mut mask: Vec<u32> = words.map(|w| noise(stream, 99 + w) as u32).collect();
    let open = open(stream, n_vocab);
    mask[open / 32] |= 1 << (open % 32);
    mask
}

/// The token that may always be drawn.
fn open(stream: u64, n_vocab: usize) -> usize {
    (stream % n_vocab as u64) as usize
}

/// Parameters within their ranges and at the ends of these.
pub(super) fn params(
    biases: impl Strategy<Value = Vec<(u32, f32)>>,
) -> impl Strategy<Value = SamplingParams> {
    let share = prop_oneof![
        Just(0.0f32),
        Just(1.0),
        0.0f32..1.0,
        0.9f32..1.0,
        0.0f32..0.01,
        Just(0.999_999_94)
    ];
    let top_k = prop_oneof![Just(0usize), Just(1), 0usize..100, 0usize..20_000];
    let temperature = prop_oneof![
        Just(0.0f32),
        Just(1.0),
        0.01f32..3.0,
        Just(1e-40),
        Just(1e30)
    ];
    let penalties = prop_oneof![
        Just((1.0f32, 0.0f32, 0.0f32)),
        (0.5f32..2.0, -1f32..1.0, -1f32..1.0)
    ];
    let min_p = prop_oneof![Just(0.0f32), 0.0f32..0.3, Just(1e-12), Just(1.0)];
    let last_n = prop_oneof![0usize..20, Just(usize::MAX)];
    let cuts = (temperature, top_k, share, min_p);
    (cuts, penalties, biases, last_n, any::<u64>()).prop_map(
        |((temperature, top_k, top_p, min_p), penalties, logit_bias, repeat_last_n, seed)| {
            SamplingParams {
                temperature,
                top_k,
                top_p,
                min_p,
                repeat_penalty: penalties.0,
                frequency_penalty: penalties.1,
                presence_penalty: penalties.2,
                repeat_last_n,
                logit_bias,
                seed,
            }
        },
    )
}
