//! `sample`: the next token from a row of logits, exact and independent of any order.
//!
//! ```text
//! adjusted  l ← penalties, biases, mask                        adjust.rs
//! greedy    temperature 0: the greatest l, the lowest id among equals
//! mass      w = round(exp((l − max) · (1 / temperature)) · 2^40)    fixed.rs
//! order     (l descending, id ascending); −0 equals 0
//! top-k     the first k tokens
//! top-p     of those the shortest prefix with Σ w ≥ ⌈top_p · Σ w of the first k⌉
//! min-p     of those the tokens with w ≥ ⌈min_p · 2^40⌉, and at least 1
//! draw      point = ⌊noise · W / 2^64⌋ with W = Σ w of those, noise = Philox(seed, position);
//!           the token whose share of 0..W, laid out by id, holds the point
//! ```
//!
//! Everything behind the exponential is integer arithmetic, and every floating-point step in
//! front of it is a single operation that rounds to nearest. So the token depends on the logits
//! alone: not on threads, vector width, the order of the vocabulary's passes or the device. A
//! parameter counts as the f32 that it is.
//!
//! The fast path reads the vocabulary once for the maxima of its blocks and once for each mass
//! that is wanted (raw log-probability, and the tempered total where top-k does not bound it).
//! Blocks whose maximum is too small are skipped in what follows; nothing is sorted.
//!
//! Sources: nucleus sampling, Holtzman et al. 2020; min-p, Nguyen et al. 2024; repetition
//! penalty, Keskar et al. 2019 (CTRL); Philox, Salmon et al. 2011. Defaults and the order of
//! penalties are llama.cpp's, but the temperature comes before the cuts, as in the transformers
//! library.

mod adjust;
mod args;
pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod fixed;
mod logprob;
mod params;
pub mod philox;
pub mod reference;
mod row;
mod select;
#[cfg(test)]
mod tests;

pub use args::{Sample, SampleRow};
pub use logprob::{log_probability, log_softmax_top};
pub use params::SamplingParams;
pub use reference::{Cut, cut};

use crate::cpu::isa::Isa;
use crate::error::Result;
use row::{Masses, Row, Summary, forbidden, overflown};
use select::{Candidates, Goal};

/// The operation's name in errors and in the registry.
pub const OP: &str = "sample";

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
#[derive(Debug)]
pub struct Sampler {
    isa: Isa,
    raw: Summary,
    raw_masses: Masses,
    /// Logits after penalties, biases and mask.
    adjusted: Vec<f32>,
    adjusted_summary: Summary,
    masses: Masses,
    candidates: Candidates,
    /// Occurrences by token id; zero between calls.
    counts: Vec<u32>,
}

impl Default for Sampler {
    fn default() -> Self {
        Sampler::new()
    }
}

impl Sampler {
    /// A sampler whose buffers grow with the first row.
    pub fn new() -> Self {
        Sampler::with_isa(Isa::detect())
    }

    /// A sampler that uses at most the instructions of `isa`; the tokens are the same.
    pub fn with_isa(isa: Isa) -> Self {
        Sampler {
            isa,
            raw: Summary::default(),
            raw_masses: Masses::default(),
            adjusted: Vec::new(),
            adjusted_summary: Summary::default(),
            masses: Masses::default(),
            candidates: Candidates::default(),
            counts: Vec::new(),
        }
    }

    /// Draws the token at `position` from a row of `logits`.
    ///
    /// - `history`: the token ids so far, prompt and generated, for the penalties.
    /// - `position`: of the token drawn in its sequence; with the seed it keys the noise.
    /// - `allowed`: bit `t % 32` of word `t / 32` says whether token `t` may be drawn.
    /// - `n_top`: how many of the most probable tokens to report.
    ///
    /// # Errors
    /// [`NotFinite`](crate::Error::NotFinite) for NaN or +inf among the logits (−inf is
    /// probability 0); [`Parameter`](crate::Error::Parameter) for a parameter out of its range,
    /// a bias of a token beyond the vocabulary, or when every token is forbidden;
    /// [`Shape`](crate::Error::Shape) for a row of no logits, a short mask or a token of the
    /// history beyond the vocabulary.
    pub fn sample(
        &mut self,
        logits: &[f32],
        params: &SamplingParams,
        history: &[u32],
        position: u64,
        allowed: Option<&[u32]>,
        n_top: usize,
    ) -> Result<Sampled> {
        params.validate()?;
        self.raw.read(self.isa, logits)?;
        self.raw_masses.read(self.isa, logits, self.raw.max, 1.0);
        let adjusts = params.penalises() || !params.logit_bias.is_empty() || allowed.is_some();
        if adjusts {
            let (counts, out) = (&mut self.counts, &mut self.adjusted);
            adjust::adjust(logits, params, history, allowed, counts, out)?;
            let summary = &mut self.adjusted_summary;
            summary.read(self.isa, &self.adjusted).map_err(overflown)?;
        }
        let token = match (params.temperature == 0.0, adjusts) {
            (true, false) => self.raw.first_max(logits),
            (true, true) => self.adjusted_summary.first_max(&self.adjusted),
            (false, _) => {
                let noise = philox::noise(params.seed, position);
                let drawn = self.draw(logits, adjusts, params, noise);
                drawn.ok_or_else(|| forbidden(logits.len()))?
            }
        };
        let raw = Row {
            isa: self.isa,
            logits,
            summary: &self.raw,
            scale: 1.0,
        };
        let logit = logits[token as usize];
        Ok(Sampled {
            token,
            logprob: logprob::relative(logit, self.raw.max, self.raw_masses.total) as f32,
            top: logprob::top(raw, &self.raw_masses, n_top, &mut self.candidates),
        })
    }

    /// Cuts and draws from the raw or the adjusted logits.
    fn draw(
        &mut self,
        raw: &[f32],
        adjusted: bool,
        params: &SamplingParams,
        noise: u64,
    ) -> Option<u32> {
        let (logits, summary) = match adjusted {
            true => (self.adjusted.as_slice(), &self.adjusted_summary),
            false => (raw, &self.raw),
        };
        let row = Row {
            isa: self.isa,
            logits,
            summary,
            scale: fixed::inverse(params.temperature),
        };
        let least = fixed::share_of(params.min_p, fixed::WEIGHT_ONE);
        let candidates = &mut self.candidates;
        if (1..logits.len()).contains(&params.top_k) {
            candidates.take_prefix(row, Goal::Count(params.top_k), f32::NEG_INFINITY);
            if params.top_p < 1.0 {
                let target = fixed::share_of(params.top_p, candidates.mass());
                candidates.cut(Goal::Mass(target));
            }
        } else if params.top_p < 1.0 || params.min_p == 0.0 {
            let masses = if !adjusted && row.scale == 1.0 {
                &self.raw_masses
            } else {
                self.masses.read(row.isa, logits, summary.max, row.scale);
                &self.masses
            };
            if params.top_p == 1.0 {
                return masses.token_at(row, fixed::point_in(masses.total, noise));
            }
            let target = fixed::share_of(params.top_p, masses.total);
            // Tokens this light do not add up to what the nucleus leaves out.
            let negligible = (masses.total - target) / logits.len() as u64;
            let floor = row.floor(least.max(negligible));
            candidates.take_prefix(row, Goal::Mass(target), floor);
        } else {
            candidates.gather(row, row.floor(least));
        }
        candidates.draw(least, noise)
    }
}
