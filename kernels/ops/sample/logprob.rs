//! Log-probabilities of the model's own distribution: raw logits, nothing modified.
//!
//! `ln p(t) = (l(t) − max) − ln Σ exp(l − max)`. The sum is the fixed-point mass at temperature
//! 1, its error below 1e-6; the rest is f64.

use super::fixed::WEIGHT_ONE;
use super::row::{Masses, Row, Summary};
use super::select::{Candidates, Goal, order_key};
use crate::cpu::isa::Isa;
use crate::error::{Error, Result};

/// The `n` most probable tokens with their natural log-probabilities, by (log-probability
/// descending, id ascending).
///
/// # Errors
/// [`Error::NotFinite`] for NaN or +inf, [`Error::Shape`] for an empty row and
/// [`Error::Parameter`] when all logits are −inf.
pub fn log_softmax_top(logits: &[f32], n: usize) -> Result<Vec<(u32, f32)>> {
    let mut summary = Summary::default();
    let mut masses = Masses::default();
    let isa = Isa::detect();
    summary.read(isa, logits)?;
    masses.read(isa, logits, summary.max, 1.0);
    let row = Row {
        isa,
        logits,
        summary: &summary,
        scale: 1.0,
    };
    Ok(top(row, &masses, n, &mut Candidates::default()))
}

/// The natural log-probability of `token`.
///
/// # Errors
/// As [`log_softmax_top`], and [`Error::Shape`] for a token beyond the row.
pub fn log_probability(logits: &[f32], token: u32) -> Result<f64> {
    let mut summary = Summary::default();
    let mut masses = Masses::default();
    let isa = Isa::detect();
    summary.read(isa, logits)?;
    let Some(&logit) = logits.get(token as usize) else {
        return Err(Error::Shape {
            op: "sample",
            detail: format!("token {token} is beyond a row of {} logits", logits.len()),
        });
    };
    masses.read(isa, logits, summary.max, 1.0);
    Ok(relative(logit, summary.max, masses.total))
}

/// ln p of a logit in a row of maximum `max` whose mass at temperature 1 is `total`; never −0,
/// whichever zero the logits hold.
pub(super) fn relative(logit: f32, max: f32, total: u64) -> f64 {
    let log_sum = (total as f64 / WEIGHT_ONE as f64).ln();
    (f64::from(logit) - f64::from(max)) - log_sum + 0.0
}

/// The `n` most probable tokens of a row whose masses at temperature 1 are `masses`.
pub(super) fn top(
    row: Row<'_>,
    masses: &Masses,
    n: usize,
    candidates: &mut Candidates,
) -> Vec<(u32, f32)> {
    if n == 0 {
        return Vec::new();
    }
    candidates.take_prefix(row, Goal::Count(n), f32::NEG_INFINITY);
    let pairs = candidates.tokens.iter().zip(&candidates.logits);
    let mut top: Vec<(u32, f32)> = pairs.map(|(&token, &logit)| (token, logit)).collect();
    top.sort_unstable_by_key(|&(token, logit)| (!order_key(logit), token));
    for (_, value) in &mut top {
        *value = relative(*value, row.summary.max, masses.total) as f32;
    }
    top
}
