//! What clients do: random traces.

use std::time::Duration;

use super::device::{STOP, draw, hashes};
use super::random::Random;
use crate::schedule::{Arrival, Limits};

/// A client's request, and what becomes of it if nobody interferes.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Plans before it comes.
    pub(super) at: u64,
    pub(super) arrival: Arrival,
    /// The plan before which the client goes away.
    pub(super) leaves: Option<u64>,
    /// The tokens that it gets when it is served alone.
    pub(super) answer: Vec<u32>,
}

/// Everything that happens to a scheduler.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) limits: Limits,
    pub(super) n_pages: usize,
    pub(super) visits: Vec<Visit>,
}

/// How much happens in a trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) visits: usize,
    pub(super) slots: usize,
    pub(super) pages: usize,
    pub(super) prompt: usize,
    pub(super) answer: usize,
}

impl Trace {
    /// The trace of a seed.
    pub(super) fn new(random: &mut Random, scale: Scale) -> Self {
        let n_slots = random.in_range(1, scale.slots);
        let n_pages = random.in_range(2, scale.pages);
        let limits = Limits {
            n_slots,
            max_rows: random.in_range(n_slots, n_slots + 80),
            beside_decode: random.in_range(1, 40),
            n_ctx: random.in_range(20, n_pages * 32 + 40),
            max_queue: random.in_range(0, 2 * scale.visits),
            run_ahead: [1, 1, 3, 8][random.below(4)],
        };
        let mut trace = Self {
            limits,
            n_pages,
            visits: Vec::new(),
        };
        let mut at = 0;
        for _ in 0..random.in_range(1, scale.visits) {
            if random.chance(2) {
                at += random.below(12) as u64;
            }
            let visit = trace.visit(random, at, scale);
            trace.visits.push(visit);
        }
        trace
    }

    fn visit(&self, random: &mut Random, at: u64, scale: Scale) -> Visit {
        let prompt = self.prompt(random, scale);
        let max_tokens = match random.below(12) {
            0 => 0,
            1 => usize::MAX,
            _ => random.in_range(1, scale.answer),
        };
        let n_ctx = self.limits.n_ctx.min(self.n_pages * 32);
        let mut arrival = Arrival::new(prompt, max_tokens);
        if random.chance(8) {
            arrival.compute_from = random.below(arrival.prompt.len());
        }
        arrival.by_pass = random.chance(12);
        let patience = |random: &mut Random| Some(Duration::from_millis(random.below(60) as u64));
        if random.chance(8) {
            arrival.queue_timeout = patience(random);
        }
        if random.chance(8) {
            arrival.timeout = patience(random);
        }
        Visit {
            at,
            answer: answer(&arrival, n_ctx),
            arrival,
            leaves: random.chance(8).then(|| at + random.below(30) as u64),
        }
    }

    /// A new text, or one that goes on from somewhere in an earlier one.
    fn prompt(&self, random: &mut Random, scale: Scale) -> Vec<u32> {
        let mut prompt = Vec::new();
        if let (false, false) = (self.visits.is_empty(), random.chance(4)) {
            let earlier = &self.visits[random.below(self.visits.len())];
            prompt.extend(&earlier.arrival.prompt);
            prompt.extend(&earlier.answer);
            let cut = match random.below(3) {
                0 => prompt.len(),
                1 => earlier.arrival.prompt.len(),
                _ => random.in_range(1, prompt.len()),
            };
            prompt.truncate(cut);
        }
        let more = match prompt.len() {
            0 => random.in_range(1, scale.prompt),
            _ => random.below(4) * random.below(scale.prompt / 4),
        };
        prompt.extend((0..more).map(|_| 1 + random.below(3) as u32));
        prompt
    }
}

/// What the model answers to a request that is alone.
fn answer(arrival: &Arrival, n_ctx: usize) -> Vec<u32> {
    let n_prompt = arrival.prompt.len();
    let most = (n_ctx + 1).saturating_sub(n_prompt).min(arrival.max_tokens);
    let mut text = hashes(&arrival.prompt)[n_prompt - 1];
    let mut answer = Vec::new();
    while answer.len() < most && answer.last() != Some(&STOP) {
        let token = draw(text);
        answer.push(token);
        text = super::device::chain(text, token);
    }
    answer
}
