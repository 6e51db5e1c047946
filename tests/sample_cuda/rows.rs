//! Many rows in one call.

use onward_emulator::SCHEDULES;
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::sample::philox::noise;
use onward_kernels::ops::sample::{Sample, SampleRow, SamplingParams};
use onward_kernels::{Backend, Cpu, Reference};
use proptest::prelude::*;

use crate::inputs::{mask, params, row, uniform};
use crate::{Bits, bits, device};

fn on<B: Backend>(
    backend: &B,
    logits: &[f32],
    vocab: usize,
    rows: &[SampleRow<'_>],
    n_top: usize,
) -> Vec<Bits> {
    let sample = Sample {
        logits: &backend.upload(logits).unwrap(),
        vocab,
        rows,
        n_top,
    };
    backend
        .sample(sample)
        .unwrap()
        .into_iter()
        .map(bits)
        .collect()
}

fn assert_equal(cuda: &Cuda, logits: &[f32], vocab: usize, rows: &[SampleRow<'_>], n_top: usize) {
    let cpu = Cpu::new(1).unwrap();
    let drawn = on(cuda, logits, vocab, rows, n_top);
    let expected = on(&cpu, logits, vocab, rows, n_top);
    for (i, (drawn, expected)) in drawn.iter().zip(&expected).enumerate() {
        assert_eq!(drawn, expected, "row {i}: {:?}", rows[i].params);
    }
    assert_eq!(expected, on(&Reference::new(), logits, vocab, rows, n_top));
}

/// None, some that add up, one that forbids.
fn biases() -> impl Strategy<Value = Vec<(u32, f32)>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![(0, 0.5), (0, 0.1), (0, -0.7)]),
        Just(vec![(0, f32::NEG_INFINITY), (0, 1.0)])
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rows_draw_what_the_cpu_and_the_reference_draw(
        stream: u64,
        vocab in prop_oneof![
            1usize..5, Just(33), Just(128), 1usize..3000, Just(8192), Just(8193), 8000usize..20_000
        ],
        spread in 0.01f32..8.0,
        levels in prop_oneof![Just(0.25f32), Just(1.0), Just(1024.0), Just(65_536.0)],
        forbidden in prop_oneof![Just(0.0f32), 0.0f32..0.99],
        params in prop::collection::vec(params(biases()), 1..6),
        n_top in prop_oneof![Just(0usize), 1usize..6, Just(100)],
        schedule: usize,
    ) {
        let (_, cuda) = device(schedule);
        let mut logits = Vec::new();
        let mut masks = Vec::new();
        for i in 0..params.len() as u64 {
            let stream = stream ^ i;
            logits.extend(row(stream, vocab, spread, levels, forbidden));
            masks.push((i % 2 == 1).then(|| mask(stream, vocab)));
        }
        let history: Vec<u32> = (0..30).map(|i| (noise(stream, i) % vocab as u64) as u32).collect();
        let rows: Vec<SampleRow<'_>> = (params.iter().zip(&masks).enumerate())
            .map(|(i, (params, mask))| SampleRow {
                params,
                history: &history[i..],
                position: stream >> 7,
                allowed: mask.as_deref(),
            })
            .collect();
        assert_equal(&cuda, &logits, vocab, &rows, n_top);
    }
}

/// Vocabularies of many tiles, with ties within and across them.
#[test]
fn large_vocabularies_draw_the_same_tokens() {
    let nucleus = |top_p| SamplingParams {
        top_p,
        ..SamplingParams::plain(0.8)
    };
    let both = |top_k, top_p| SamplingParams {
        top_k,
        top_p,
        ..SamplingParams::plain(1.0)
    };
    let (_, cuda) = device(2);
    for vocab in [151_936, 1 << 20] {
        let params = [
            SamplingParams::default(),
            SamplingParams::plain(1.0),
            nucleus(0.95),
            nucleus(0.999_999_94),
            both(30_000, 0.7),
            both(vocab - 1, 0.9999),
            SamplingParams {
                top_k: vocab / 3,
                ..SamplingParams::plain(3.0)
            },
            SamplingParams {
                min_p: 0.02,
                ..SamplingParams::plain(1.5)
            },
        ];
        for (levels, spread) in [(2.0, 0.3), (65_536.0, 3.0)] {
            let mut logits = Vec::new();
            let mut rows = Vec::new();
            for (i, params) in params.iter().enumerate() {
                logits.extend(row(i as u64, vocab, spread, levels, 0.1));
                rows.push(SampleRow {
                    params,
                    history: &[],
                    position: 7,
                    allowed: None,
                });
            }
            assert_equal(&cuda, &logits, vocab, &rows, 20);
        }
    }
}

/// Masses that divide evenly: a nucleus that ends with the very token which reaches its share,
/// where the last token kept by top-k is one of equals, before them, or one of weight 0.
#[test]
fn cuts_that_fall_between_two_tokens_are_exact() {
    let both = |top_k, top_p| SamplingParams {
        top_k,
        top_p,
        ..SamplingParams::plain(1.0)
    };
    let (_, cuda) = device(1);
    for vocab in [16, 16_384] {
        let half = vocab / 2;
        let sets = [
            both(0, 0.5),
            both(0, 0.125),
            both(half, 0.5),
            both(half + 4, 0.25),
            both(half + 4, 1.0),
            both(0, 1.0 / half as f32),
        ];
        // All equal; every other token impossible but not forbidden; half of them as good as 0.
        for low in [0.0, -100.0, -30.0] {
            let logits: Vec<f32> = (0..vocab)
                .map(|token| if token % 2 == 0 { 0.0 } else { low })
                .collect();
            let rows = sets.iter().flat_map(|params| {
                (0..8).map(move |position| SampleRow {
                    params,
                    history: &[],
                    position,
                    allowed: None,
                })
            });
            let rows: Vec<_> = rows.collect();
            assert_equal(&cuda, &logits.repeat(rows.len()), vocab, &rows, 3);
        }
    }
}

/// A penalised logit beside its very value, before it and behind it: of equals the first is
/// taken, so a bit more or less is seen. And biases of one token, which do not add up in another
/// order.
#[test]
fn adjusted_logits_have_the_bits_of_the_cpu() {
    let (_, cuda) = device(0);
    let mut logits = Vec::new();
    let mut sets = Vec::new();
    for i in 0..400 {
        let u = |k: u64| uniform(i, k);
        let logit = (u(0) - 0.3) * 30.0;
        let (repeat, frequency, presence) = (0.5 + u(1), u(2) - 0.5, u(3) - 0.5);
        let (first, second) = (u(4) - 0.5, (u(5) - 0.5) * 1e-3);
        let params = SamplingParams {
            repeat_penalty: repeat,
            frequency_penalty: frequency,
            presence_penalty: presence,
            logit_bias: vec![(1, first), (1, second)],
            ..SamplingParams::plain(0.0)
        };
        let repeated = match logit > 0.0 {
            true => logit / repeat,
            false => logit * repeat,
        };
        let penalised = repeated - (3.0 * frequency + presence);
        let value = penalised + first + second;
        // Token 1 is the one adjusted.
        logits.extend(match i % 2 {
            0 => [value, logit, -1e9],
            _ => [-1e9, logit, value],
        });
        sets.push(params);
    }
    let rows = sets.iter().map(|params| SampleRow {
        params,
        history: &[1, 1, 1],
        position: 0,
        allowed: None,
    });
    assert_equal(&cuda, &logits, 3, &rows.collect::<Vec<_>>(), 0);
}

/// Each kind of error on its own and two at once, beside rows that are sound.
#[test]
fn rows_that_cannot_be_drawn_say_what_the_cpu_says() {
    const VOCAB: usize = BROKEN_VOCAB;
    let bias = |logit_bias| SamplingParams {
        logit_bias,
        ..SamplingParams::plain(1.0)
    };
    let penalty = SamplingParams {
        presence_penalty: 1.0,
        ..SamplingParams::plain(1.0)
    };
    let sound = SamplingParams::default();
    let invalid = SamplingParams {
        top_p: 2.0,
        ..SamplingParams::plain(1.0)
    };
    let overflow = SamplingParams {
        repeat_penalty: 1e-30,
        ..SamplingParams::plain(1.0)
    };
    let beyond = bias(vec![(9000, 1.0)]);
    let huge = bias(vec![(8500, f32::MAX)]);
    let normal = || row(3, VOCAB, 2.0, 1024.0, 0.0);
    let with = |token: usize, value: f32| {
        let mut row = normal();
        row[token] = value;
        row
    };
    let nan = || {
        let mut row = with(8400, -f32::NAN);
        row[8999] = f32::INFINITY;
        row
    };
    let none = || vec![f32::NEG_INFINITY; VOCAB];
    let (open, closed, short) = (vec![!0u32; 282], vec![0u32; 282], vec![!0u32; 281]);
    assert_refused(&[
        (normal(), &sound, vec![], None),
        (nan(), &sound, vec![], None),
        (with(0, f32::INFINITY), &sound, vec![], None),
        (none(), &sound, vec![], None),
        (normal(), &sound, vec![], Some(&closed)),
        (normal(), &sound, vec![], Some(&short)),
        (with(8500, f32::MAX), &huge, vec![], None),
        (with(8500, f32::MAX), &huge, vec![], Some(&closed)),
        (with(77, 1e20), &overflow, vec![77], Some(&open)),
        (normal(), &invalid, vec![], None),
        (normal(), &beyond, vec![], None),
        (normal(), &penalty, vec![1, 9000], None),
        (nan(), &invalid, vec![], None),
        (nan(), &beyond, vec![], None),
        (nan(), &penalty, vec![1, 9000], Some(&short)),
        (none(), &beyond, vec![], Some(&closed)),
        (normal(), &sound, vec![], Some(&open)),
    ]);
}

/// Logits, parameters, history and mask of a row.
type BrokenRow<'a> = (Vec<f32>, &'a SamplingParams, Vec<u32>, Option<&'a Vec<u32>>);

const BROKEN_VOCAB: usize = 9000;

/// All but two of the rows have errors, those of the CPU.
fn assert_refused(cases: &[BrokenRow<'_>]) {
    for schedule in 0..SCHEDULES.len() {
        let (_, cuda) = device(schedule);
        // The second time the device has seen these errors.
        for n_top in [0, 3] {
            let logits: Vec<f32> = cases.iter().flat_map(|case| case.0.clone()).collect();
            let rows: Vec<SampleRow<'_>> = cases
                .iter()
                .map(|(_, params, history, mask)| SampleRow {
                    params,
                    history,
                    position: 1,
                    allowed: mask.map(Vec::as_slice),
                })
                .collect();
            let errors = on(&cuda, &logits, BROKEN_VOCAB, &rows, n_top);
            assert_eq!(errors.iter().filter(|result| result.is_err()).count(), 15);
            assert_equal(&cuda, &logits, BROKEN_VOCAB, &rows, n_top);
        }
    }
}
