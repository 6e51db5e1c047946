//! Sampling against its textbook formulas in 60 decimal digits.
//!
//! `golden/sample/make.py` computed, with nothing but Python's decimal numbers and its own
//! Philox, what each set of parameters keeps, how probable it is, what the raw log-probabilities
//! are and which token the noise of a position draws.

use onward_kernels::ops::sample::{Sampler, SamplingParams, cut, log_probability, log_softmax_top};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    /// 256 times the logits.
    logits_256: Vec<f32>,
    history: Vec<u32>,
    params: Params,
    /// Tokens left by top-k, top-p and min-p.
    lengths: [usize; 3],
    kept: Vec<(u32, f64)>,
    top: Vec<(u32, f64)>,
    /// `(position, token)`.
    draws: Vec<(u64, u32)>,
}

#[derive(Deserialize)]
struct Params {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    repeat_last_n: usize,
    frequency_penalty: f32,
    presence_penalty: f32,
    logit_bias: Vec<(u32, f32)>,
    seed: u64,
}

impl Case {
    fn logits(&self) -> Vec<f32> {
        self.logits_256.iter().map(|l| l / 256.0).collect()
    }

    fn params(&self) -> SamplingParams {
        let p = &self.params;
        SamplingParams {
            temperature: p.temperature,
            top_k: p.top_k,
            top_p: p.top_p,
            min_p: p.min_p,
            repeat_penalty: p.repeat_penalty,
            repeat_last_n: p.repeat_last_n,
            frequency_penalty: p.frequency_penalty,
            presence_penalty: p.presence_penalty,
            logit_bias: p.logit_bias.clone(),
            seed: p.seed,
        }
    }
}

fn cases() -> Vec<Case> {
    let path = format!("{}/golden/sample/cases.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_cuts_keep_the_tokens_and_probabilities_of_the_formulas() {
    for case in cases() {
        let cut = cut(&case.logits(), &case.params(), &case.history, None).unwrap();
        // What the fixed-point mass may round to nothing stands at the end of the order.
        let least = 1e-11;
        let possible = case.kept.iter().filter(|(_, p)| *p > least).count();
        if possible == case.kept.len() {
            assert_eq!(
                [cut.n_top_k, cut.n_top_p, cut.n_min_p],
                case.lengths,
                "{}",
                case.name
            );
        }
        assert!(
            cut.kept.len() >= possible && cut.kept.len() <= case.kept.len(),
            "{}",
            case.name
        );
        let greatest = case.kept[0].1;
        for (&(token, p), &(expected, exact)) in cut.kept.iter().zip(&case.kept) {
            assert_eq!(token, expected, "{}", case.name);
            // The scaled logit x is rounded to f32, which exp turns into a relative error of a
            // few |x| · 2^-24; then exp's own, the sum's and the unit.
            let x = (exact / greatest).ln().abs();
            let bound = exact * (x + 1.0) * 2f64.powi(-22) + 2f64.powi(-40);
            let error = (f64::from(p) - exact).abs();
            assert!(error < bound, "{}: {p} for {exact}", case.name);
        }
    }
}

#[test]
fn the_noise_of_a_position_draws_the_token_of_the_formulas() {
    let mut sampler = Sampler::new();
    for case in cases() {
        let (logits, params) = (case.logits(), case.params());
        for &(position, expected) in &case.draws {
            let drawn = sampler
                .sample(&logits, &params, &case.history, position, None, 0)
                .unwrap();
            assert_eq!(
                drawn.token, expected,
                "{} at position {position}",
                case.name
            );
        }
    }
}

#[test]
fn log_probabilities_are_those_of_the_raw_logits() {
    for case in cases() {
        let logits = case.logits();
        let top = log_softmax_top(&logits, case.top.len()).unwrap();
        assert_eq!(top.len(), case.top.len());
        for (&(token, logprob), &(expected, exact)) in top.iter().zip(&case.top) {
            assert_eq!(token, expected, "{}", case.name);
            assert!((f64::from(logprob) - exact).abs() < 2e-6, "{}", case.name);
            let precise = log_probability(&logits, token).unwrap();
            assert!(
                (precise - exact).abs() < 3e-7,
                "{}: {precise} for {exact}",
                case.name
            );
        }
    }
}
