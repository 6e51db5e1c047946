//! A million draws follow the distribution that f64 arithmetic gives.

use super::*;

const DRAWS: u64 = 1_000_000;

/// The definition once more, in f64 and without any code of the sampler.
fn analytic(logits: &[f32], params: &SamplingParams, history: &[u32]) -> Vec<f64> {
    let mut l: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    let window: Vec<u32> = history
        .iter()
        .rev()
        .take(params.repeat_last_n)
        .copied()
        .collect();
    for (token, l) in l.iter_mut().enumerate() {
        let count = window.iter().filter(|&&t| t as usize == token).count() as f64;
        if count > 0.0 {
            let factor = f64::from(params.repeat_penalty);
            *l *= if *l > 0.0 { 1.0 / factor } else { factor };
            *l -= f64::from(params.presence_penalty);
        }
        *l -= count * f64::from(params.frequency_penalty);
    }
    for &(token, bias) in &params.logit_bias {
        l[token as usize] += f64::from(bias);
    }
    let mut p: Vec<f64> = l
        .iter()
        .map(|l| (l / f64::from(params.temperature)).exp())
        .collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let greatest = p[order[0]];
    let k = if params.top_k == 0 {
        p.len()
    } else {
        params.top_k
    };
    let top_k: f64 = order[..k].iter().map(|&t| p[t]).sum();
    let mut before = 0.0;
    for (rank, &token) in order.iter().enumerate() {
        let outside = rank >= k || before >= f64::from(params.top_p) * top_k;
        before += p[token];
        if outside || p[token] < f64::from(params.min_p) * greatest {
            p[token] = 0.0;
        }
    }
    let sum: f64 = p.iter().sum();
    p.iter().map(|p| p / sum).collect()
}

/// Pearson's statistic in standard deviations from its mean, rare tokens pooled.
fn surprise(counts: &[u64], expected: &[f64]) -> f64 {
    let (mut statistic, mut cells, mut rare) = (0.0, 0.0, (0.0, 0.0));
    let mut cell = |observed: f64, expected: f64| {
        statistic += (observed - expected).powi(2) / expected;
        cells += 1.0;
    };
    for (&count, &p) in counts.iter().zip(expected) {
        let (observed, mean) = (count as f64, p * DRAWS as f64);
        assert!(p > 0.0 || count == 0, "a token outside the cuts was drawn");
        match mean {
            0.0 => {}
            m if m < 10.0 => rare = (rare.0 + observed, rare.1 + m),
            m => cell(observed, m),
        }
    }
    if rare.1 > 0.0 {
        cell(rare.0, rare.1);
    }
    let freedom: f64 = cells - 1.0;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

fn parameter_sets() -> Vec<SamplingParams> {
    let penalised = SamplingParams {
        repeat_penalty: 1.3,
        frequency_penalty: 0.4,
        presence_penalty: 0.7,
        repeat_last_n: 6,
        logit_bias: vec![(4, 1.5), (9, f32::NEG_INFINITY)],
        ..SamplingParams::plain(0.9)
    };
    vec![
        SamplingParams::plain(1.0),
        SamplingParams::plain(0.6),
        SamplingParams::plain(1.7),
        SamplingParams {
            top_k: 7,
            ..SamplingParams::plain(1.2)
        },
        SamplingParams {
            top_p: 0.8,
            ..SamplingParams::plain(0.9)
        },
        SamplingParams {
            min_p: 0.1,
            ..SamplingParams::plain(1.1)
        },
        SamplingParams {
            top_k: 25,
            top_p: 0.9,
            min_p: 0.02,
            ..SamplingParams::plain(1.4)
        },
        penalised,
    ]
}

#[test]
fn draws_follow_the_analytic_distribution() {
    let logits = normal_row(2024, 60, 2.0);
    let history = [1, 2, 3, 4, 5, 4, 4, 6, 9];
    for (stream, params) in parameter_sets().into_iter().enumerate() {
        let params = SamplingParams {
            seed: stream as u64,
            ..params
        };
        let mut sampler = Sampler::new();
        let mut counts = vec![0; logits.len()];
        for position in 0..DRAWS {
            let drawn = sampler
                .sample(&logits, &params, &history, position, None, 0)
                .unwrap();
            counts[drawn.token as usize] += 1;
        }
        let sigmas = surprise(&counts, &analytic(&logits, &params, &history));
        assert!(sigmas.abs() < 4.0, "{sigmas} σ with {params:?}");
    }
}

#[test]
fn the_cut_reports_the_analytic_probabilities() {
    let history = [1, 2, 3, 4, 5, 4, 4, 6, 9];
    for (stream, params) in (70..90).flat_map(|s| parameter_sets().into_iter().map(move |p| (s, p)))
    {
        let logits = normal_row(stream, 400, 2.5);
        let expected = analytic(&logits, &params, &history);
        let cut = cut(&logits, &params, &history, None).unwrap();
        let possible = expected.iter().filter(|&&p| p > 0.0).count();
        assert_eq!(cut.kept.len(), possible);
        assert_eq!(cut.n_min_p, possible);
        assert!(cut.n_top_p >= possible && cut.n_top_k >= cut.n_top_p);
        assert!(cut.n_temperature >= cut.n_top_k && cut.n_allowed >= cut.n_temperature);
        assert_eq!(cut.n_vocab, 400);
        let greatest = expected.iter().copied().fold(0.0, f64::max);
        for &(token, p) in &cut.kept {
            let exact = expected[token as usize];
            // The scaled logit x and its ingredients are rounded to f32, which exp turns into a
            // relative error of a few |x| · 2^-24; then exp's own, the sum's and the unit.
            let x = (exact / greatest).ln().abs();
            let bound = exact * (x + 1.0) * 2f64.powi(-22) + 2f64.powi(-40);
            assert!((f64::from(p) - exact).abs() < bound, "{p} for {exact}");
        }
        assert!(cut.kept.is_sorted_by(|a, b| a.1 >= b.1));
    }
}

#[test]
fn seeds_and_positions_decide_and_nothing_else() {
    let logits = normal_row(9, 500, 1.0);
    let draw = |sampler: &mut Sampler, seed, position| {
        let params = SamplingParams {
            seed,
            ..SamplingParams::plain(1.0)
        };
        sampler
            .sample(&logits, &params, &[], position, None, 0)
            .unwrap()
            .token
    };
    let mut used = Sampler::new();
    let forwards: Vec<u32> = (0..200).map(|p| draw(&mut used, 1, p)).collect();
    let mut backwards: Vec<u32> = (0..200)
        .rev()
        .map(|p| draw(&mut Sampler::new(), 1, p))
        .collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    let other: Vec<u32> = (0..200).map(|p| draw(&mut used, 2, p)).collect();
    let equal = forwards.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(
        equal < 20,
        "{equal} of 200 draws are the same under another seed"
    );
}
