//! Sampling flags on top of what the model recommends.

use std::hash::{BuildHasher, RandomState};

use onward_kernels::ops::sample::SamplingParams;

use crate::args::{CutArgs, SamplingArgs};

impl CutArgs {
    /// `defaults` with what the flags say.
    pub(crate) fn over(&self, defaults: SamplingParams) -> SamplingParams {
        SamplingParams {
            temperature: self.temp.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            ..defaults
        }
    }
}

impl SamplingArgs {
    /// `defaults` with what the flags say, and a fresh seed where they name none.
    pub(crate) fn over(&self, defaults: SamplingParams) -> SamplingParams {
        let defaults = self.cut.over(defaults);
        SamplingParams {
            repeat_penalty: self.repeat_penalty.unwrap_or(defaults.repeat_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(defaults.repeat_last_n),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed.unwrap_or_else(random_seed),
            ..defaults
        }
    }
}

/// A seed from the system's randomness, short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(()) >> 32
}
