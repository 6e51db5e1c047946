//! Broken rows, parameters and arguments give one clear sentence; odd ones that are sound work.

use super::*;
use crate::Error;

fn sample(logits: &[f32], params: &SamplingParams) -> Result<Sampled> {
    Sampler::new().sample(logits, params, &[], 0, None, 2)
}

/// The sentence of the error, from the sampler and the reference alike.
fn message(logits: &[f32], params: &SamplingParams) -> String {
    let fast = sample(logits, params).unwrap_err().to_string();
    let reference = cut(logits, params, &[], None).unwrap_err().to_string();
    assert_eq!(fast, reference);
    fast
}

#[test]
fn nan_and_plus_infinity_are_refused_wherever_they_stand() {
    for n_vocab in [1, 33, 130, 1000] {
        for token in [0, n_vocab / 2, n_vocab - 1] {
            for (value, what) in [
                (f32::NAN, "NaN"),
                (f32::INFINITY, "+inf"),
                (-f32::NAN, "NaN"),
            ] {
                let mut logits = vec![0.5; n_vocab];
                logits[token] = value;
                for params in [SamplingParams::default(), SamplingParams::greedy()] {
                    let error = sample(&logits, &params).unwrap_err();
                    assert!(
                        matches!(error, Error::NotFinite { token: t, what: w } if t == token && w == what),
                        "{error}"
                    );
                    message(&logits, &params);
                }
                assert!(log_softmax_top(&logits, 1).is_err());
                assert!(log_probability(&logits, 0).is_err());
            }
        }
    }
}

#[test]
fn parameters_outside_their_range_are_named() {
    let bad = [
        (
            SamplingParams {
                temperature: -0.1,
                ..SamplingParams::plain(1.0)
            },
            "temperature -0.1",
        ),
        (
            SamplingParams {
                temperature: f32::NAN,
                ..SamplingParams::plain(1.0)
            },
            "temperature NaN",
        ),
        (
            SamplingParams {
                temperature: f32::INFINITY,
                ..SamplingParams::plain(1.0)
            },
            "temperature inf",
        ),
        (
            SamplingParams {
                top_p: 1.5,
                ..SamplingParams::plain(1.0)
            },
            "top-p 1.5",
        ),
        (
            SamplingParams {
                top_p: f32::NAN,
                ..SamplingParams::plain(1.0)
            },
            "top-p NaN",
        ),
        (
            SamplingParams {
                min_p: -1.0,
                ..SamplingParams::plain(1.0)
            },
            "min-p -1",
        ),
        (
            SamplingParams {
                repeat_penalty: 0.0,
                ..SamplingParams::plain(1.0)
            },
            "repeat-penalty 0",
        ),
        (
            SamplingParams {
                frequency_penalty: f32::NAN,
                ..SamplingParams::plain(1.0)
            },
            "frequency-penalty NaN",
        ),
        (
            SamplingParams {
                presence_penalty: f32::INFINITY,
                ..SamplingParams::plain(1.0)
            },
            "presence-penalty inf",
        ),
        (
            SamplingParams {
                logit_bias: vec![(1, f32::NAN)],
                ..SamplingParams::plain(1.0)
            },
            "logit-bias NaN of token 1",
        ),
        (
            SamplingParams {
                logit_bias: vec![(1, f32::INFINITY)],
                ..SamplingParams::plain(1.0)
            },
            "logit-bias inf",
        ),
    ];
    for (params, start) in bad {
        let message = message(&[0.0, 1.0], &params);
        assert!(message.starts_with(start), "{message}");
        assert!(message.contains("is out of range: give a"), "{message}");
    }
    assert!(SamplingParams::default().validate().is_ok());
    assert!(SamplingParams::greedy().validate().is_ok());
}

#[test]
fn ids_beyond_the_vocabulary_are_named() {
    let biased = SamplingParams {
        logit_bias: vec![(7, 1.0)],
        ..SamplingParams::plain(1.0)
    };
    assert_eq!(
        message(&[0.0, 1.0], &biased),
        "logit-bias names token 7, but the vocabulary has 2 tokens"
    );
    let penalised = SamplingParams {
        presence_penalty: 1.0,
        ..SamplingParams::plain(1.0)
    };
    let error = Sampler::new()
        .sample(&[0.0], &penalised, &[0, 5], 0, None, 0)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "sample: the history holds token 5, but a row has 1 logits"
    );
    let error = Sampler::new()
        .sample(
            &[0.0; 33],
            &SamplingParams::plain(1.0),
            &[],
            0,
            Some(&[1]),
            0,
        )
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "sample: the mask has 1 words, but 33 tokens need 2"
    );
    assert!(log_probability(&[0.0], 1).is_err());
}

#[test]
fn nothing_left_to_draw_is_an_error() {
    let forbidden = SamplingParams {
        logit_bias: vec![(0, f32::NEG_INFINITY), (1, f32::NEG_INFINITY)],
        ..SamplingParams::plain(1.0)
    };
    let message_of_bias = message(&[3.0, 4.0], &forbidden);
    assert!(
        message_of_bias.starts_with("all 2 tokens are forbidden"),
        "{message_of_bias}"
    );
    assert_eq!(
        message(&[f32::NEG_INFINITY; 2], &SamplingParams::plain(1.0)),
        message_of_bias
    );
    let masked = Sampler::new().sample(
        &[3.0, 4.0],
        &SamplingParams::plain(0.0),
        &[],
        0,
        Some(&[0]),
        0,
    );
    assert_eq!(masked.unwrap_err().to_string(), message_of_bias);
    assert!(message(&[], &SamplingParams::plain(1.0)).contains("no logits"));
}

#[test]
fn biases_that_overflow_are_not_blamed_on_the_model() {
    let huge = SamplingParams {
        logit_bias: vec![(1, f32::MAX)],
        ..SamplingParams::plain(1.0)
    };
    assert_eq!(
        message(&[0.0, f32::MAX], &huge),
        "penalties or biases turn the logit of token 1 into +inf"
    );
}

#[test]
fn a_vocabulary_of_one_token_works() {
    for params in [
        SamplingParams::default(),
        SamplingParams::greedy(),
        SamplingParams::plain(1.0),
    ] {
        let drawn = sample(&[-3.5], &params).unwrap();
        assert_eq!(
            drawn,
            Sampled {
                token: 0,
                logprob: 0.0,
                top: vec![(0, 0.0)]
            }
        );
    }
}

#[test]
fn impossible_tokens_are_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 300];
    logits[250] = -f32::MAX;
    for params in [
        SamplingParams::default(),
        SamplingParams::plain(5.0),
        SamplingParams {
            top_k: 200,
            ..SamplingParams::plain(1.0)
        },
    ] {
        for position in 0..100 {
            let drawn = Sampler::new()
                .sample(&logits, &params, &[], position, None, 2)
                .unwrap();
            assert_eq!(drawn.token, 250);
            assert_eq!(drawn.logprob, 0.0);
            assert_eq!(drawn.top[1], (0, f32::NEG_INFINITY));
        }
    }
}

#[test]
fn a_sampler_is_as_good_as_new_after_an_error() {
    let penalised = SamplingParams {
        frequency_penalty: 0.5,
        ..SamplingParams::plain(1.0)
    };
    let logits = normal_row(1, 50, 1.0);
    let mut used = Sampler::new();
    assert!(
        used.sample(&logits, &penalised, &[3, 3, 99], 0, None, 0)
            .is_err()
    );
    let biased = SamplingParams {
        logit_bias: vec![(99, 1.0)],
        ..penalised.clone()
    };
    assert!(used.sample(&logits, &biased, &[3, 3], 0, None, 0).is_err());
    for position in 0..200 {
        let expected = Sampler::new().sample(&logits, &penalised, &[3, 4], position, None, 3);
        let drawn = used.sample(&logits, &penalised, &[3, 4], position, None, 3);
        assert_eq!(drawn.unwrap(), expected.unwrap());
    }
}
