//! A sequence as the device holds it: from parameters to a slot, from an output to a token.

use super::super::fixed::{WEIGHT_ONE, inverse, share_of};
use super::super::row::{forbidden, overflown};
use super::super::{OP, Sampled, SamplingParams, adjust, logprob};
use super::memory::SampleShape;
use crate::cuda::abi::{
    SAMPLE_BIASES, SAMPLE_DRAWN, SAMPLE_FORBIDDEN, SAMPLE_GREEDY, SAMPLE_MASKS, SAMPLE_MAX_STOPS,
    SAMPLE_NOT_FINITE, SAMPLE_PENALISES, SAMPLE_RAW_FORBIDDEN, SampleOutput, SampleSlot,
    SampleStart as Record, SampleTop,
};
use crate::decode::SampleStart;
use crate::error::{Error, Result};
use crate::ops::{narrow, shape_error};

/// Whether the last pass lists the candidates of the nucleus.
pub(super) fn lists_candidates(params: &SamplingParams, vocab: usize) -> bool {
    params.temperature > 0.0 && (1..vocab).contains(&params.top_k) && params.top_p < 1.0
}

/// What begins sequences on the device.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub(super) records: Vec<Record>,
    /// Histories, biases and masks.
    pub(super) words: Vec<u32>,
}

impl Upload {
    /// Adds the sequence of slot `index`.
    ///
    /// # Errors
    /// A parameter out of its range, or more than the shape holds.
    pub(super) fn push(
        &mut self,
        start: &SampleStart<'_>,
        index: usize,
        shape: &SampleShape,
    ) -> Result<()> {
        let params = start.row.params;
        params.validate()?;
        let window = adjust::window(params, start.row.history);
        adjust::check(shape.vocab, params, window, start.row.allowed)?;
        check_room(start, window.len(), shape)?;
        let first_token = narrow(OP, self.words.len())?;
        self.words.extend_from_slice(window);
        let first_bias = narrow(OP, self.words.len())?;
        // Stable: biases of one token are added in their order.
        let mut biases = params.logit_bias.clone();
        biases.sort_by_key(|&(token, _)| token);
        for (token, bias) in biases {
            self.words.extend([token, bias.to_bits()]);
        }
        let first_mask = narrow(OP, self.words.len())?;
        if let Some(allowed) = start.row.allowed {
            self.words.extend_from_slice(&allowed[..shape.n_words()]);
        }
        self.records.push(Record {
            slot: slot_of(start, window.len(), shape.vocab),
            index: narrow(OP, index)?,
            first_token,
            first_bias,
            first_mask,
        });
        Ok(())
    }
}

/// Whether the state has room for a sequence with a window of `n_history` tokens.
fn check_room(start: &SampleStart<'_>, n_history: usize, shape: &SampleShape) -> Result<()> {
    let params = start.row.params;
    // Tokens that the window holds at the end; the last one drawn is never looked back on.
    let most = n_history.saturating_add(start.max_tokens.saturating_sub(1));
    let needed = match params.penalises() {
        true => most.min(params.repeat_last_n).max(1),
        false => 0,
    };
    let listed = match lists_candidates(params, shape.vocab) {
        true => params.top_k,
        false => 0,
    };
    let sizes = [
        ("tokens of history", needed, shape.history),
        ("biases", params.logit_bias.len(), shape.n_biases),
        ("stop tokens", start.stops.len(), SAMPLE_MAX_STOPS as usize),
        (
            "most probable tokens",
            start.n_top,
            shape.n_top.min(shape.vocab),
        ),
        ("candidates", listed, shape.top_k),
    ];
    match sizes.into_iter().find(|&(_, needed, room)| needed > room) {
        None => Ok(()),
        Some((what, needed, room)) => Err(shape_error(
            OP,
            format!("a sequence needs {needed} {what}, but its slot has room for {room}"),
        )),
    }
}

fn slot_of(start: &SampleStart<'_>, n_history: usize, vocab: usize) -> SampleSlot {
    let params = start.row.params;
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let when = |on: bool, flag: u32| if on { flag } else { 0 };
    let mut stops = [0; SAMPLE_MAX_STOPS as usize];
    stops[..start.stops.len()].copy_from_slice(start.stops);
    SampleSlot {
        seed: params.seed,
        position: start.row.position,
        least: share_of(params.min_p, WEIGHT_ONE),
        scale: inverse(params.temperature),
        top_p: params.top_p,
        negligible: negligible(params.top_p, vocab),
        repeat_penalty: params.repeat_penalty,
        frequency_penalty: params.frequency_penalty,
        presence_penalty: params.presence_penalty,
        window: clamp(params.repeat_last_n),
        top_k: match params.top_k {
            k if k < vocab => clamp(k),
            _ => 0,
        },
        n_top: clamp(start.n_top),
        n_biases: clamp(params.logit_bias.len()),
        flags: when(params.temperature == 0.0, SAMPLE_GREEDY)
            | when(params.penalises(), SAMPLE_PENALISES)
            | when(!params.logit_bias.is_empty(), SAMPLE_BIASES)
            | when(start.row.allowed.is_some(), SAMPLE_MASKS),
        n_history: clamp(n_history),
        n_drawn: 0,
        n_left: clamp(start.max_tokens),
        is_live: u32::from(start.max_tokens > 0),
        n_stops: clamp(start.stops.len()),
        stops,
        unused: [0; 2],
    }
}

/// The scaled logit below the maximum from which on no nucleus of a share `top_p` reaches.
///
/// A nucleus leaves out at least `1 − top_p` of the mass, which is at least that of the most
/// probable token. Tokens of less than a `vocab`th of it do not add up to that, and come last in
/// the order: whatever is lighter than a logit's weight is below this logit, with some slack for
/// the error of the weights.
fn negligible(top_p: f32, vocab: usize) -> f32 {
    const SLACK: f64 = 0.01;
    let left_out = WEIGHT_ONE - share_of(top_p, WEIGHT_ONE);
    let weight = (left_out / vocab as u64).max(1);
    // What rounds to `weight` is at least half a unit less.
    let share = (weight as f64 - 0.5) / WEIGHT_ONE as f64;
    (share.ln() - SLACK) as f32
}

/// What an output says.
///
/// # Errors
/// Those of [`Sampler::sample`](super::super::Sampler::sample) about the logits.
pub(super) fn sampled(output: &SampleOutput, top: &[SampleTop], vocab: usize) -> Result<Sampled> {
    let logprob = |logit| logprob::relative(logit, output.max, output.mass) as f32;
    let broken = Error::NotFinite {
        token: output.token as usize,
        what: if output.logit.is_nan() { "NaN" } else { "+inf" },
    };
    match output.status {
        SAMPLE_DRAWN => Ok(Sampled {
            token: output.token,
            logprob: logprob(output.logit),
            top: top.iter().map(|t| (t.token, logprob(t.logit))).collect(),
        }),
        SAMPLE_RAW_FORBIDDEN | SAMPLE_FORBIDDEN => Err(forbidden(vocab)),
        SAMPLE_NOT_FINITE => Err(overflown(broken)),
        _ => Err(broken),
    }
}
