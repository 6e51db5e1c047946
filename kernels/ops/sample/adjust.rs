//! What changes logits before the temperature: penalties, biases, the mask, in this order.
//!
//! ```text
//! l ← l > 0 ? l / repeat : l · repeat                     tokens in the window
//! l ← l − (count · frequency + presence)                  tokens in the window
//! l ← l + bias                                            tokens with a bias
//! l ← −inf                                                tokens the mask forbids
//! ```
//!
//! The first is the CTRL paper's penalty (Keskar et al. 2019) with the sign mended as in
//! llama.cpp, the second OpenAI's.

use super::params::SamplingParams;
use crate::error::{Error, Result};

/// Writes the adjusted logits to `out`. `counts` holds zeros and is handed back so.
///
/// # Errors
/// [`Error::Parameter`] for a bias of a token beyond the vocabulary; [`Error::Shape`] for a
/// token of the history beyond it or a mask that is too short.
pub(super) fn adjust(
    logits: &[f32],
    params: &SamplingParams,
    history: &[u32],
    allowed: Option<&[u32]>,
    counts: &mut Vec<u32>,
    out: &mut Vec<f32>,
) -> Result<()> {
    out.clear();
    out.extend_from_slice(logits);
    if params.penalises() {
        let window = &history[history.len().saturating_sub(params.repeat_last_n)..];
        penalise(params, window, counts, out)?;
    }
    let vocab = out.len();
    for &(token, bias) in &params.logit_bias {
        let Some(logit) = out.get_mut(token as usize) else {
            return Err(Error::Parameter(format!(
                "logit-bias names token {token}, but the vocabulary has {vocab} tokens"
            )));
        };
        *logit += bias;
    }
    if let Some(mask) = allowed {
        forbid(mask, out)?;
    }
    Ok(())
}

/// Applies the three penalties to the tokens of `window`.
fn penalise(
    params: &SamplingParams,
    window: &[u32],
    counts: &mut Vec<u32>,
    logits: &mut [f32],
) -> Result<()> {
    let vocab = logits.len();
    if let Some(token) = window.iter().find(|&&token| token as usize >= vocab) {
        return Err(Error::Shape {
            op: "sample",
            detail: format!("the history holds token {token}, but a row has {vocab} logits"),
        });
    }
    if counts.len() < vocab {
        counts.resize(vocab, 0);
    }
    for &token in window {
        counts[token as usize] += 1;
    }
    for &token in window {
        // Zero once visited: each token is penalised once, and the counts are left clean.
        let count = std::mem::take(&mut counts[token as usize]);
        if count == 0 {
            continue;
        }
        let logit = &mut logits[token as usize];
        *logit = if *logit > 0.0 {
            *logit / params.repeat_penalty
        } else {
            *logit * params.repeat_penalty
        };
        *logit -= count as f32 * params.frequency_penalty + params.presence_penalty;
    }
    Ok(())
}

/// Sets the logits of tokens whose bit is clear to −inf; bit `t % 32` of word `t / 32` is token `t`.
fn forbid(mask: &[u32], logits: &mut [f32]) -> Result<()> {
    if mask.len() < logits.len().div_ceil(32) {
        return Err(Error::Shape {
            op: "sample",
            detail: format!(
                "the mask has {} words, but {} tokens need {}",
                mask.len(),
                logits.len(),
                logits.len().div_ceil(32)
            ),
        });
    }
    for (tokens, &word) in logits.chunks_mut(32).zip(mask) {
        if word == 0 {
            tokens.fill(f32::NEG_INFINITY);
            continue;
        }
        let mut closed = !word;
        while closed != 0 {
            if let Some(logit) = tokens.get_mut(closed.trailing_zeros() as usize) {
                *logit = f32::NEG_INFINITY;
            }
            closed &= closed - 1;
        }
    }
    Ok(())
}
