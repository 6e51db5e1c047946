//! `moe_route` in plain loops. What is computed for a row is the same on every backend, bit for
//! bit: single operations on f32, and sums of integers.

use super::{GroupScore, Groups, MoeRoute, Routing, Scoring};
use crate::backend::RoutesArray;
use crate::ops::sample::fixed::{WEIGHT_BITS, scaled_exp, weight};
use crate::reference::Reference;

/// Below this `exp` is taken to be that of this, the least normal number.
const LEAST: f32 = -87.0;
/// What keeps a sum of weights from being zero.
const EPSILON: f32 = 1e-20;

pub(crate) fn run(op: MoeRoute<'_, Reference>) {
    let shape = *op.routes.shape();
    let rows = op.logits.chunks_exact(shape.n_experts).take(op.n_rows);
    let choices = (op.routes.experts.chunks_exact_mut(shape.top_k))
        .zip(op.routes.weights.chunks_exact_mut(shape.top_k));
    for (logits, (experts, weights)) in rows.zip(choices) {
        route(
            logits,
            op.bias.map(Vec::as_slice),
            op.routing,
            experts,
            weights,
        );
    }
    op.routes.group(op.n_rows);
}

/// Chooses the experts of a row and their weights, as many as `experts` and `weights` have room
/// for.
pub(crate) fn route(
    logits: &[f32],
    bias: Option<&[f32]>,
    routing: Routing,
    experts: &mut [u32],
    weights: &mut [f32],
) {
    let scores = scores(routing.scoring, logits);
    let choice: Vec<f32> = (scores.iter().enumerate())
        .map(|(e, &score)| score + bias.map_or(0.0, |bias| bias[e]))
        // Of NaN nothing is greater: its experts are the last to be chosen.
        .map(|c| if c.is_nan() { f32::NEG_INFINITY } else { c })
        .collect();
    let mut open = match routing.groups {
        Some(groups) => members(groups, &choice),
        None => vec![true; choice.len()],
    };
    for expert in experts.iter_mut() {
        let best = greatest(&choice, &open);
        open[best] = false;
        *expert = best as u32;
    }
    for (weight, &expert) in weights.iter_mut().zip(&*experts) {
        *weight = scores[expert as usize];
    }
    if routing.scoring == Scoring::SoftmaxOfChosen {
        let chosen = scores_of_softmax(weights);
        weights.copy_from_slice(&chosen);
    }
    finish(logits, routing, weights);
}

/// Normalises and scales the weights of a row.
fn finish(logits: &[f32], routing: Routing, weights: &mut [f32]) {
    if routing.normalise {
        let mut sum = 0.0;
        for &weight in &*weights {
            sum += weight;
        }
        for weight in &mut *weights {
            *weight /= sum + EPSILON;
        }
    }
    let broken = logits.iter().any(|logit| !logit.is_finite());
    for weight in weights {
        *weight = if broken {
            f32::NAN
        } else {
            *weight * routing.scale
        };
    }
}

fn scores(scoring: Scoring, logits: &[f32]) -> Vec<f32> {
    match scoring {
        Scoring::Softmax => scores_of_softmax(logits),
        Scoring::SoftmaxOfChosen => logits.to_vec(),
        Scoring::Sigmoid => logits.iter().map(|&x| sigmoid(x)).collect(),
    }
}

/// The softmax of `x`. The sum is one of integers in units of 2^−40 of the greatest term.
fn scores_of_softmax(x: &[f32]) -> Vec<f32> {
    let max = x.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    let total: u64 = x.iter().map(|&x| weight(x - max)).sum();
    let total = total as f32 * (1.0 / (1u64 << WEIGHT_BITS) as f32);
    x.iter().map(|&x| exp(x - max) / total).collect()
}

/// `1 / (1 + e^−x)`, by the exponential of a negative number on either side of zero.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    if x >= 0.0 {
        1.0 / (1.0 + e)
    } else {
        e / (1.0 + e)
    }
}

/// `e^x` for `x` at most 0.
fn exp(x: f32) -> f32 {
    scaled_exp(if x > LEAST { x } else { LEAST }, 0)
}

/// Which experts belong to the groups with the greatest scores.
fn members(groups: Groups, choice: &[f32]) -> Vec<bool> {
    let size = choice.len() / groups.n_groups;
    let scores: Vec<f32> = choice
        .chunks_exact(size)
        .map(|group| group_score(groups.score, group))
        .collect();
    let mut open = vec![true; groups.n_groups];
    for _ in 0..groups.n_chosen {
        let best = greatest(&scores, &open);
        open[best] = false;
    }
    (0..choice.len()).map(|e| !open[e / size]).collect()
}

fn group_score(score: GroupScore, group: &[f32]) -> f32 {
    let mut best = f32::NEG_INFINITY;
    let mut second = f32::NEG_INFINITY;
    for &c in group {
        if c > best {
            second = best;
            best = c;
        } else if c > second {
            second = c;
        }
    }
    match score {
        GroupScore::TopTwo if group.len() > 1 => best + second,
        _ => best,
    }
}

/// The first of the greatest values that are `open`, of which there is one.
fn greatest(values: &[f32], open: &[bool]) -> usize {
    let mut best = None;
    for (i, &value) in values.iter().enumerate() {
        if open[i] && best.is_none_or(|best: usize| value > values[best]) {
            best = Some(i);
        }
    }
    best.unwrap_or(0)
}
