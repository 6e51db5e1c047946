//! A row of logits and what one pass over it tells.

use super::cpu::{self, BLOCK, is_logit};
use super::fixed::{WEIGHT_ONE, weight};
use crate::cpu::isa::Isa;
use crate::error::{Error, Result};

/// The maximum of each block of a row, which lets later passes skip most blocks.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// One for each [`BLOCK`] logits; the last block may be short.
    pub(super) maxima: Vec<f32>,
    /// The greatest logit, finite.
    pub(super) max: f32,
}

impl Summary {
    /// Reads `logits` once.
    ///
    /// # Errors
    /// [`Error::Shape`] for no logits, [`Error::NotFinite`] for NaN or +inf,
    /// [`Error::Parameter`] when all are −inf.
    pub(super) fn read(&mut self, isa: Isa, logits: &[f32]) -> Result<()> {
        if logits.is_empty() {
            return Err(Error::Shape {
                op: "sample",
                detail: "a row of no logits".to_string(),
            });
        }
        self.maxima.resize(logits.len().div_ceil(BLOCK), 0.0);
        if !cpu::scan(isa, logits, &mut self.maxima) {
            return Err(not_finite(logits));
        }
        self.max = self
            .maxima
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        if self.max == f32::NEG_INFINITY {
            return Err(forbidden(logits.len()));
        }
        Ok(())
    }

    /// The first token with the greatest logit.
    pub(super) fn first_max(&self, logits: &[f32]) -> u32 {
        let equal = |&l: &f32| l == self.max;
        let block = self.maxima.iter().position(equal).unwrap_or(0);
        let start = block * BLOCK;
        let within = logits[start..].iter().position(equal).unwrap_or(0);
        (start + within) as u32
    }
}

/// A row of logits with the scale of its weights.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) isa: Isa,
    pub(super) logits: &'a [f32],
    pub(super) summary: &'a Summary,
    /// 1 / temperature.
    pub(super) scale: f32,
}

impl Row<'_> {
    /// A logit that no token of at least `weight` units falls below; a few lighter ones may lie
    /// above it.
    pub(super) fn floor(&self, weight: u64) -> f32 {
        // Far more than the error of the weights, the logarithm and the scale together.
        const SLACK: f64 = 0.01;
        // What rounds to `weight` is at least half a unit less.
        let share = (weight as f64 - 0.5) / WEIGHT_ONE as f64;
        let below = share.ln() - SLACK;
        (f64::from(self.summary.max) + below / f64::from(self.scale)) as f32
    }
}

/// The masses of a row's blocks at one temperature.
#[derive(Debug, Default)]
pub(super) struct Masses {
    /// One for each block.
    pub(super) blocks: Vec<u64>,
    /// Their sum.
    pub(super) total: u64,
}

impl Masses {
    /// Reads `logits`, whose greatest is `max`, once; `scale` is 1 / temperature.
    pub(super) fn read(&mut self, isa: Isa, logits: &[f32], max: f32, scale: f32) {
        self.blocks.resize(logits.len().div_ceil(BLOCK), 0);
        cpu::masses(isa, logits, max, scale, &mut self.blocks);
        self.total = self.blocks.iter().sum();
    }

    /// The token at `point` of the mass laid out by token id.
    pub(super) fn token_at(&self, row: Row<'_>, mut point: u64) -> Option<u32> {
        for (block, &mass) in self.blocks.iter().enumerate() {
            if point >= mass {
                point -= mass;
                continue;
            }
            for (token, &logit) in row.logits.iter().enumerate().skip(block * BLOCK) {
                let weight = weight((logit - row.summary.max) * row.scale);
                if point < weight {
                    return Some(token as u32);
                }
                point -= weight;
            }
        }
        None
    }
}

/// The error of a row that penalties or biases broke; others pass through.
pub(super) fn overflown(error: Error) -> Error {
    match error {
        Error::NotFinite { token, what } => Error::Parameter(format!(
            "penalties or biases turn the logit of token {token} into {what}"
        )),
        other => other,
    }
}

/// Names the first logit that is NaN or +inf.
pub(super) fn not_finite(logits: &[f32]) -> Error {
    let token = logits.iter().position(|&l| !is_logit(l)).unwrap_or(0);
    let what = if logits[token].is_nan() {
        "NaN"
    } else {
        "+inf"
    };
    Error::NotFinite { token, what }
}

/// Nothing is left to draw.
pub(super) fn forbidden(n_vocab: usize) -> Error {
    Error::Parameter(format!(
        "all {n_vocab} tokens are forbidden: logits, biases and mask leave nothing to draw"
    ))
}
