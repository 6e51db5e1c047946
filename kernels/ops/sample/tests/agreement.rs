//! The fast path draws what the sorting reference draws and keeps what it keeps.

use proptest::prelude::*;

use super::inputs::{mask, params, row};
use super::*;
use crate::ops::sample::fixed::{WEIGHT_ONE, share_of};

/// Compares kept tokens, draws, log-probability and top of one row.
fn check(logits: &[f32], params: &SamplingParams, history: &[u32], allowed: Option<&[u32]>) {
    let mut sampler = Sampler::new();
    let expected = cut(logits, params, history, allowed).unwrap();
    for position in [0, 1, 2, 77, 1 << 40] {
        let drawn = sampler
            .sample(logits, params, history, position, allowed, 0)
            .unwrap();
        let token = reference::draw(logits, params, history, position, allowed).unwrap();
        assert_eq!(drawn.token, token, "{params:?}");
    }
    let cuts =
        (1..logits.len()).contains(&params.top_k) || params.top_p < 1.0 || params.min_p > 0.0;
    if params.temperature > 0.0 && cuts {
        let least = share_of(params.min_p, WEIGHT_ONE);
        let candidates = &sampler.candidates;
        let pairs = candidates.tokens.iter().zip(&candidates.weights);
        let kept: Vec<u32> = pairs
            .filter(|&(_, &w)| w >= least)
            .map(|(&t, _)| t)
            .collect();
        let mut ids: Vec<u32> = expected.kept.iter().map(|&(token, _)| token).collect();
        ids.sort_unstable();
        assert_eq!(kept, ids, "{params:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn draws_as_the_reference_does(
        stream: u64,
        n_vocab in prop_oneof![1usize..5, Just(33), Just(127), Just(128), Just(129), 1usize..3000],
        spread in 0.01f32..8.0,
        levels in prop_oneof![Just(0.25f32), Just(1.0), Just(1024.0)],
        forbidden in prop_oneof![Just(0.0f32), 0.0f32..0.99],
        params in params(prop_oneof![Just(vec![]), Just(vec![(0, 0.5), (0, 0.25)])]),
    ) {
        let logits = row(stream, n_vocab, spread, levels, forbidden);
        let history: Vec<u32> = (0..30).map(|i| (noise(stream, i) % n_vocab as u64) as u32).collect();
        check(&logits, &params, &history, None);
        let mask = mask(stream, n_vocab);
        check(&logits, &params, &history, Some(&mask));
    }
}

#[test]
fn large_vocabularies_agree() {
    let nucleus = SamplingParams {
        top_p: 0.95,
        ..SamplingParams::plain(0.8)
    };
    let sets = [
        SamplingParams::default(),
        SamplingParams::plain(1.0),
        SamplingParams::plain(0.7),
        nucleus.clone(),
        SamplingParams {
            min_p: 0.05,
            ..SamplingParams::plain(1.3)
        },
        SamplingParams {
            min_p: 0.001,
            ..nucleus.clone()
        },
        SamplingParams {
            top_k: 30_000,
            ..nucleus
        },
        SamplingParams {
            frequency_penalty: 0.3,
            presence_penalty: 0.2,
            ..SamplingParams::default()
        },
    ];
    for n_vocab in [50_257, 262_144] {
        for (levels, spread) in [(1.0, 0.5), (4.0, 2.0), (65_536.0, 3.0), (65_536.0, 0.001)] {
            let logits = row(n_vocab as u64, n_vocab, spread, levels, 0.1);
            for params in &sets {
                check(&logits, params, &[1, 2, 3, 2, 1], None);
            }
        }
    }
}

#[test]
fn ties_at_the_edge_of_the_nucleus_go_to_the_lowest_ids() {
    // Ten equal tokens: half the mass is the first five of them by id.
    let logits = [1.0f32; 10];
    let half = SamplingParams {
        top_p: 0.5,
        ..SamplingParams::plain(1.0)
    };
    let kept = cut(&logits, &half, &[], None).unwrap().kept;
    assert_eq!(
        kept.iter().map(|&(token, _)| token).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    let mut sampler = Sampler::new();
    for position in 0..1000 {
        let token = sampler
            .sample(&logits, &half, &[], position, None, 0)
            .unwrap()
            .token;
        assert!(token < 5);
    }
    assert_eq!(sampler.candidates.tokens, [0, 1, 2, 3, 4]);
}

#[test]
fn only_the_most_probable_is_left_by_top_p_0_top_k_1_and_min_p_1() {
    let mut logits = normal_row(3, 1000, 2.0);
    logits[700] = 20.0;
    logits[300] = 20.0;
    let sets = [
        SamplingParams::greedy(),
        SamplingParams {
            top_p: 0.0,
            ..SamplingParams::plain(1.0)
        },
        SamplingParams {
            top_k: 1,
            ..SamplingParams::plain(1.0)
        },
    ];
    let mut sampler = Sampler::new();
    for params in sets {
        for position in 0..50 {
            let drawn = sampler
                .sample(&logits, &params, &[], position, None, 0)
                .unwrap();
            assert_eq!(drawn.token, 300, "{params:?}");
        }
    }
    let equals = SamplingParams {
        min_p: 1.0,
        ..SamplingParams::plain(1.0)
    };
    let kept = cut(&logits, &equals, &[], None).unwrap().kept;
    assert_eq!(kept, [(300, 0.5), (700, 0.5)]);
}

#[test]
fn log_probabilities_match_an_f64_softmax() {
    for n_vocab in [1, 2, 33, 50_257] {
        let mut logits = normal_row(11, n_vocab, 4.0);
        logits
            .iter_mut()
            .for_each(|l| *l = (*l * 8.0).round() / 8.0);
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
        let exact = |t: u32| f64::from(logits[t as usize] - max) - sum.ln();
        let mut order: Vec<u32> = (0..n_vocab as u32).collect();
        order.sort_by(|&a, &b| exact(b).total_cmp(&exact(a)).then(a.cmp(&b)));
        let top = log_softmax_top(&logits, 100).unwrap();
        assert_eq!(top.len(), n_vocab.min(100));
        for (&(token, logprob), &expected) in top.iter().zip(&order) {
            assert_eq!(token, expected);
            assert!((f64::from(logprob) - exact(token)).abs() < 2e-6);
            assert!((log_probability(&logits, token).unwrap() - exact(token)).abs() < 3e-7);
        }
        let drawn = Sampler::new()
            .sample(&logits, &SamplingParams::plain(2.0), &[], 5, None, 3)
            .unwrap();
        assert!((f64::from(drawn.logprob) - exact(drawn.token)).abs() < 2e-6);
        assert_eq!(drawn.top, top[..n_vocab.min(3)]);
    }
}

#[test]
fn instruction_sets_draw_the_same_tokens() {
    let logits = normal_row(5, 20_000, 2.0);
    let mut samplers: Vec<Sampler> = Isa::available().map(Sampler::with_isa).collect();
    for position in 0..100 {
        let mut drawn = samplers.iter_mut().map(|sampler| {
            sampler
                .sample(&logits, &SamplingParams::plain(1.5), &[], position, None, 5)
                .unwrap()
        });
        let first = drawn.next().unwrap();
        assert!(drawn.all(|other| other == first));
    }
}
