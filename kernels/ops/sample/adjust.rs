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

use super::OP;
use super::params::SamplingParams;
use crate::error::{Error, Result};

/// The tokens of `history` that the penalties look at: none if they are off.
pub(super) fn window<'a>(params: &SamplingParams, history: &'a [u32]) -> &'a [u32] {
    match params.penalises() {
        true => &history[history.len().saturating_sub(params.repeat_last_n)..],
        false => &[],
    }
}

/// Whether window, biases and mask fit a vocabulary of `vocab` tokens.
///
/// # Errors
/// [`Error::Parameter`] for a bias of a token beyond the vocabulary; [`Error::Shape`] for a
/// token of the window beyond it or a mask that is too short.
pub(super) fn check(
    vocab: usize,
    params: &SamplingParams,
    window: &[u32],
    allowed: Option<&[u32]>,
) -> Result<()> {
    let shape_error = |detail| Err(Error::Shape { op: OP, detail });
    if let Some(token) = window.iter().find(|&&token| token as usize >= vocab) {
        return shape_error(format!(
            "the history holds token {token}, but a row has {vocab} logits"
        ));
    }
    let mut biases = params.logit_bias.iter();
    if let Some((token, _)) = biases.find(|&&(token, _)| token as usize >= vocab) {
        return Err(Error::Parameter(format!(
            "logit-bias names token {token}, but the vocabulary has {vocab} tokens"
        )));
    }
    match (allowed.map(<[u32]>::len), vocab.div_ceil(32)) {
        (Some(words), needed) if words < needed => shape_error(format!(
            "the mask has {words} words, but {vocab} tokens need {needed}"
        )),
        _ => Ok(()),
    }
}

/// Writes the adjusted logits to `out`. `counts` holds zeros and is handed back so.
///
/// # Errors
/// As [`check`].
pub(super) fn adjust(
    logits: &[f32],
    params: &SamplingParams,
    history: &[u32],
    allowed: Option<&[u32]>,
    counts: &mut Vec<u32>,
    out: &mut Vec<f32>,
) -> Result<()> {
    let window = window(params, history);
    check(logits.len(), params, window, allowed)?;
    out.clear();
    out.extend_from_slice(logits);
    penalise(params, window, counts, out);
    for &(token, bias) in &params.logit_bias {
        out[token as usize] += bias;
    }
    if let Some(mask) = allowed {
        forbid(mask, out);
    }
    Ok(())
}

/// Applies the three penalties to the tokens of `window`.
fn penalise(params: &SamplingParams, window: &[u32], counts: &mut Vec<u32>, logits: &mut [f32]) {
    if counts.len() < logits.len() {
        counts.resize(logits.len(), 0);
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
}

/// Sets the logits of tokens whose bit is clear to −inf; bit `t % 32` of word `t / 32` is token `t`.
fn forbid(mask: &[u32], logits: &mut [f32]) {
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
}
