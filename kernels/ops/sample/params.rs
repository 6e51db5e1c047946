//! The sampling parameters of one request and their ranges.

use crate::error::{Error, Result};

/// Sampling parameters of one request.
///
/// The default is llama.cpp's: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, everything
/// else off.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the most probable token (greedy) and ignores the cuts.
    pub temperature: f32,
    /// Keeps this many of the most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the shortest prefix of the most probable tokens whose share of the mass that
    /// top-k left reaches this; 1 keeps all, 0 only the most probable token.
    pub top_p: f32,
    /// Keeps tokens at least this probable relative to the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the window; 1 is off.
    pub repeat_penalty: f32,
    /// The window of the three penalties: this many of the last tokens, the prompt's included.
    pub repeat_last_n: usize,
    /// Subtracted from a logit once for each time its token occurs in the window.
    pub frequency_penalty: f32,
    /// Subtracted from a logit once if its token occurs in the window.
    pub presence_penalty: f32,
    /// `(token, bias)` added to logits; −inf forbids a token. Entries of one token add up.
    pub logit_bias: Vec<(u32, f32)>,
    /// Keys the noise, together with the position of the token drawn.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplingParams {
    /// Always the most probable token, the lowest id among equals.
    pub fn greedy() -> Self {
        SamplingParams {
            temperature: 0.0,
            ..SamplingParams::default()
        }
    }

    /// Draws from the whole distribution at `temperature`: nothing is cut off or penalised.
    pub fn plain(temperature: f32) -> Self {
        SamplingParams {
            temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            ..SamplingParams::default()
        }
    }

    /// Whether every parameter is in its range.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming the first that is not, its value and its range. Token ids in
    /// `logit_bias` are checked against the vocabulary when sampling.
    pub fn validate(&self) -> Result<()> {
        let finite = f32::MIN..=f32::MAX;
        check("temperature", self.temperature, 0.0..=f32::MAX)?;
        check("top-p", self.top_p, 0.0..=1.0)?;
        check("min-p", self.min_p, 0.0..=1.0)?;
        check(
            "repeat-penalty",
            self.repeat_penalty,
            f32::MIN_POSITIVE..=f32::MAX,
        )?;
        check("frequency-penalty", self.frequency_penalty, finite.clone())?;
        check("presence-penalty", self.presence_penalty, finite)?;
        for &(token, bias) in &self.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(Error::Parameter(format!(
                    "logit-bias {bias} of token {token} is out of range: give a finite number, \
                     or -inf to forbid the token"
                )));
            }
        }
        Ok(())
    }

    /// Whether any of the three penalties is on.
    pub(super) fn penalises(&self) -> bool {
        let on = self.repeat_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0;
        on && self.repeat_last_n > 0
    }
}

/// Refuses a value outside `range`, NaN included.
fn check(name: &str, value: f32, range: std::ops::RangeInclusive<f32>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let wanted = match (*range.start(), *range.end()) {
        (f32::MIN, f32::MAX) => "a finite number".to_string(),
        (f32::MIN_POSITIVE, f32::MAX) => "a finite number above 0".to_string(),
        (low, f32::MAX) => format!("a finite number of at least {low}"),
        (low, high) => format!("a number from {low} to {high}"),
    };
    Err(Error::Parameter(format!(
        "{name} {value} is out of range: give {wanted}"
    )))
}
