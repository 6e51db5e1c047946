//! `sample`: the next token from a row of logits, exact and independent of any order.

mod adjust;
pub mod fixed;
mod params;
pub mod philox;
pub mod reference;

pub use params::SamplingParams;
pub use reference::{Cut, cut};

use crate::error::{Error, Result};

/// A token drawn and how probable the model held it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub token: u32,
    /// Natural logarithm of its probability in the model's own distribution: the raw logits,
    /// before penalties, biases, mask and temperature.
    pub logprob: f32,
    /// The most probable tokens of that distribution, by (log-probability descending, id
    /// ascending).
    pub top: Vec<(u32, f32)>,
}

/// Draws tokens; holds the buffers, so one per worker.
#[derive(Debug, Default)]
pub struct Sampler {}

impl Sampler {
    /// A sampler whose buffers grow with the first row.
    pub fn new() -> Self {
        Sampler::default()
    }

    /// Draws the token at `position` from a row of `logits`.
    ///
    /// - `history`: the token ids so far, prompt and generated, for the penalties.
    /// - `position`: of the token drawn in its sequence; with the seed it keys the noise.
    /// - `allowed`: bit `t % 32` of word `t / 32` says whether token `t` may be drawn.
    /// - `n_top`: how many of the most probable tokens to report.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for NaN or +inf among the logits (−inf is probability 0);
    /// [`Error::Parameter`] for a parameter out of its range, a bias of a token beyond the
    /// vocabulary, or when every token is forbidden; [`Error::Shape`] for a row of no logits, a
    /// short mask or a token of the history beyond the vocabulary.
    pub fn sample(
        &mut self,
        logits: &[f32],
        params: &SamplingParams,
        history: &[u32],
        position: u64,
        allowed: Option<&[u32]>,
        n_top: usize,
    ) -> Result<Sampled> {
        let token = reference::draw(logits, params, history, position, allowed)?;
        Ok(Sampled {
            token,
            logprob: log_probability(logits, token)? as f32,
            top: log_softmax_top(logits, n_top)?,
        })
    }
}

/// The `n` most probable tokens with their natural log-probabilities, by (log-probability
/// descending, id ascending); errors as in [`Sampler::sample`].
pub fn log_softmax_top(logits: &[f32], n: usize) -> Result<Vec<(u32, f32)>> {
    check_finite(logits)?;
    let log_sum = log_sum_exp(logits);
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| {
        logits[b as usize]
            .total_cmp(&logits[a as usize])
            .then(a.cmp(&b))
    });
    order.truncate(n);
    Ok(order
        .into_iter()
        .map(|t| (t, (f64::from(logits[t as usize]) - log_sum) as f32))
        .collect())
}

/// The natural log-probability of `token`; errors as in [`Sampler::sample`].
pub fn log_probability(logits: &[f32], token: u32) -> Result<f64> {
    check_finite(logits)?;
    let Some(&logit) = logits.get(token as usize) else {
        return Err(Error::Shape {
            op: "sample",
            detail: format!("token {token} is beyond a row of {} logits", logits.len()),
        });
    };
    Ok(f64::from(logit) - log_sum_exp(logits))
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mass: u64 = logits.iter().map(|&l| fixed::weight(l - max)).sum();
    f64::from(max) + (mass as f64 / fixed::WEIGHT_ONE as f64).ln()
}

/// Refuses rows from which no distribution follows.
fn check_finite(logits: &[f32]) -> Result<()> {
    if logits.is_empty() {
        return Err(Error::Shape {
            op: "sample",
            detail: "a row of no logits".to_string(),
        });
    }
    match logits
        .iter()
        .position(|&l| l.is_nan() || l == f32::INFINITY)
    {
        None => Ok(()),
        Some(token) => Err(Error::NotFinite {
            token,
            what: if logits[token].is_nan() {
                "NaN"
            } else {
                "+inf"
            },
        }),
    }
}

/// Nothing is left to draw.
fn forbidden(n_vocab: usize) -> Error {
    Error::Parameter(format!(
        "all {n_vocab} tokens are forbidden: the logits, biases and mask leave nothing to draw"
    ))
}
