//! The definition in plain loops: sort everything, sum, cut, draw. What the fast path and the
//! GPU are judged by, and what shows the cuts to a person.

use super::adjust::adjust;
use super::fixed::{WEIGHT_ONE, inverse, point_in, share_of, weight};
use super::params::SamplingParams;
use super::philox::noise;
use super::row::{forbidden, not_finite, overflown};
use super::{Sample, Sampled, log_probability, log_softmax_top};
use crate::error::{Error, Result};
use crate::reference::Reference;

/// The tokens in order of probability and where each stage cuts them.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Tokens that biases and mask leave possible.
    pub n_allowed: usize,
    /// Of those, the tokens whose mass is not zero at this temperature.
    pub n_temperature: usize,
    /// Of those, what top-k leaves.
    pub n_top_k: usize,
    /// Of those, what top-p leaves.
    pub n_top_p: usize,
    /// Of those, what min-p leaves: the tokens that can be drawn.
    pub n_min_p: usize,
    /// The tokens that can be drawn with their probabilities, which sum to 1, the most probable
    /// first and the lowest id first among equals.
    pub kept: Vec<(u32, f32)>,
}

/// Where `params` cut the distribution of `logits`; arguments and errors as in
/// [`Sampler::sample`](super::Sampler::sample). At temperature 0 every stage leaves one token.
pub fn cut(
    logits: &[f32],
    params: &SamplingParams,
    history: &[u32],
    allowed: Option<&[u32]>,
) -> Result<Cut> {
    let stages = Stages::new(logits, params, history, allowed)?;
    let kept = stages.kept();
    let total = stages.mass(&kept) as f64;
    let with_mass = |n: usize| {
        let prefix = &stages.order[..n];
        prefix.iter().filter(|&&t| stages.weight_of(t) > 0).count()
    };
    Ok(Cut {
        n_vocab: logits.len(),
        n_allowed: stages.n_allowed,
        n_temperature: with_mass(stages.order.len()),
        n_top_k: with_mass(stages.n_top_k),
        n_top_p: with_mass(stages.n_top_p),
        n_min_p: kept.len(),
        kept: kept
            .iter()
            .map(|&token| (token, (stages.weight_of(token) as f64 / total) as f32))
            .collect(),
    })
}

/// The token that [`Sampler::sample`](super::Sampler::sample) must draw, by sorting.
pub fn draw(
    logits: &[f32],
    params: &SamplingParams,
    history: &[u32],
    position: u64,
    allowed: Option<&[u32]>,
) -> Result<u32> {
    let stages = Stages::new(logits, params, history, allowed)?;
    let mut kept = stages.kept();
    let mut point = point_in(stages.mass(&kept), noise(params.seed, position));
    kept.sort_unstable();
    for &token in &kept {
        let weight = stages.weight_of(token);
        if point < weight {
            return Ok(token);
        }
        point -= weight;
    }
    Err(forbidden(logits.len()))
}

pub(crate) fn run(op: Sample<'_, Reference>) -> Vec<Result<Sampled>> {
    let rows = op.rows.iter().zip(op.logits.chunks_exact(op.vocab));
    rows.map(|(row, logits)| {
        let token = draw(logits, row.params, row.history, row.position, row.allowed)?;
        Ok(Sampled {
            token,
            logprob: log_probability(logits, token)? as f32,
            top: log_softmax_top(logits, op.n_top)?,
        })
    })
    .collect()
}

/// The sorted vocabulary and the lengths of its prefixes.
struct Stages {
    /// Token ids by (adjusted logit descending, id ascending).
    order: Vec<u32>,
    /// Mass by token id.
    weights: Vec<u64>,
    n_allowed: usize,
    n_top_k: usize,
    n_top_p: usize,
    /// Least weight that min-p keeps.
    least: u64,
}

impl Stages {
    fn new(
        logits: &[f32],
        params: &SamplingParams,
        history: &[u32],
        allowed: Option<&[u32]>,
    ) -> Result<Stages> {
        params.validate()?;
        check_finite(logits)?;
        let mut adjusted = Vec::new();
        adjust(
            logits,
            params,
            history,
            allowed,
            &mut Vec::new(),
            &mut adjusted,
        )?;
        check_finite(&adjusted).map_err(overflown)?;
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        // partial_cmp holds −0 and 0 equal, and there is no NaN left.
        order.sort_by(|&a, &b| {
            let (la, lb) = (adjusted[a as usize], adjusted[b as usize]);
            lb.partial_cmp(&la)
                .unwrap_or(std::cmp::Ordering::Equal)
                .then(a.cmp(&b))
        });
        let max = adjusted[order[0] as usize];
        let greedy = params.temperature == 0.0;
        let mut stages = Stages {
            weights: match greedy {
                true => one_hot(order[0], logits.len()),
                false => {
                    let scale = inverse(params.temperature);
                    adjusted
                        .iter()
                        .map(|&l| weight((l - max) * scale))
                        .collect()
                }
            },
            n_allowed: adjusted.iter().filter(|l| l.is_finite()).count(),
            n_top_k: match params.top_k {
                0 => logits.len(),
                k => k.min(logits.len()),
            },
            n_top_p: 0,
            least: share_of(params.min_p, WEIGHT_ONE),
            order,
        };
        stages.n_top_p = stages.nucleus(params.top_p);
        Ok(stages)
    }

    /// Length of the shortest prefix of the first `n_top_k` tokens with a share of `top_p`.
    fn nucleus(&self, top_p: f32) -> usize {
        let candidates = &self.order[..self.n_top_k];
        let target = share_of(top_p, self.mass(candidates));
        let mut mass = 0;
        let short = candidates.iter().take_while(|&&token| {
            mass += self.weight_of(token);
            mass < target
        });
        short.count() + 1
    }

    /// The tokens that can be drawn, the most probable first.
    fn kept(&self) -> Vec<u32> {
        let nucleus = self.order[..self.n_top_p].iter();
        nucleus
            .copied()
            .filter(|&token| self.weight_of(token) >= self.least)
            .collect()
    }

    fn weight_of(&self, token: u32) -> u64 {
        self.weights[token as usize]
    }

    fn mass(&self, tokens: &[u32]) -> u64 {
        tokens.iter().map(|&token| self.weight_of(token)).sum()
    }
}

/// Refuses rows from which no distribution follows.
fn check_finite(logits: &[f32]) -> Result<()> {
    if logits.is_empty() {
        return Err(Error::Shape {
            op: "sample",
            detail: "a row of no logits".to_string(),
        });
    }
    if logits.iter().any(|&l| l.is_nan() || l == f32::INFINITY) {
        return Err(not_finite(logits));
    }
    match logits.iter().all(|&l| l == f32::NEG_INFINITY) {
        true => Err(forbidden(logits.len())),
        false => Ok(()),
    }
}

/// All the mass on one token.
fn one_hot(token: u32, n_vocab: usize) -> Vec<u64> {
    let mut weights = vec![0; n_vocab];
    weights[token as usize] = WEIGHT_ONE;
    weights
}
