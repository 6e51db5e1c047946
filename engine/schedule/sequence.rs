//! A request on its way through the scheduler.

use std::time::Duration;

use super::types::{Arrival, Id};
use crate::kv::Holding;

/// A request, waiting or running.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: Id,
    /// Prompt and drawn tokens.
    pub(super) tokens: Vec<u32>,
    n_prompt: usize,
    /// Tokens in all once it is full.
    n_full: usize,
    compute_from: usize,
    by_pass: bool,
    queue_deadline: Option<Duration>,
    deadline: Option<Duration>,
    /// How many of the tokens are in the cache.
    pub(super) done: usize,
    /// Prompt tokens that did not have to be computed for it; what it found again after it was
    /// preempted does not count.
    pub(super) n_cached: usize,
    pub(super) was_preempted: bool,
    pub(super) slot: usize,
    pub(super) holding: Holding,
    /// Whether it has drawn since it was admitted; otherwise it reads.
    pub(super) is_writing: bool,
    /// Nobody wants it any more; what it holds is let go once no step is under way.
    pub(super) is_ended: bool,
}

impl Sequence {
    pub(super) fn new(id: Id, arrival: Arrival, n_ctx: usize, now: Duration) -> Self {
        let Arrival {
            prompt,
            max_tokens,
            compute_from,
            by_pass,
            queue_timeout,
            timeout,
        } = arrival;
        let after = |timeout: Duration| now.saturating_add(timeout);
        Self {
            id,
            n_prompt: prompt.len(),
            // The last token of a full context is drawn, but not run.
            n_full: prompt.len().saturating_add(max_tokens).min(n_ctx + 1),
            tokens: prompt,
            compute_from,
            by_pass,
            queue_deadline: queue_timeout.map(after),
            deadline: timeout.map(after),
            done: 0,
            n_cached: 0,
            was_preempted: false,
            slot: 0,
            holding: Holding::default(),
            is_writing: false,
            is_ended: false,
        }
    }

    /// Tokens that it may still draw.
    pub(super) fn n_left(&self) -> usize {
        self.n_full - self.tokens.len()
    }

    pub(super) fn n_prompt(&self) -> usize {
        self.n_prompt
    }

    /// Positions that it has at most.
    pub(super) fn most_positions(&self) -> usize {
        self.n_prompt.max(self.n_full - 1)
    }

    /// Positions that need room for `n` steps ahead.
    pub(super) fn room_for(&self, n: usize) -> usize {
        (self.done + n).min(self.most_positions())
    }

    /// Positions that need room to run all its tokens and the one to be drawn.
    pub(super) fn room_to_begin(&self) -> usize {
        (self.tokens.len() + 1).min(self.most_positions())
    }

    /// How many of its tokens the cache may spare it: all but the last, and not those whose
    /// results are wanted and have not been computed yet.
    pub(super) fn sparable(&self) -> usize {
        (self.tokens.len() - 1).min(self.compute_from)
    }

    /// Whether tokens are to be run before it can draw.
    pub(super) fn is_reading(&self) -> bool {
        !self.is_writing && self.done < self.tokens.len()
    }

    /// Whether only a pass brings it on.
    pub(super) fn needs_pass(&self) -> bool {
        self.is_reading() || (self.by_pass && self.writes())
    }

    /// Whether it has drawn a token that is to be run.
    pub(super) fn writes(&self) -> bool {
        self.is_writing && self.n_left() > 0
    }

    /// Whether its time is over while it runs.
    pub(super) fn is_late(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether its time is over while it waits.
    pub(super) fn is_late_in_queue(&self, now: Duration) -> bool {
        let never_served = !self.was_preempted;
        let is_late = |deadline: Duration| never_served && deadline <= now;
        self.is_late(now) || self.queue_deadline.is_some_and(is_late)
    }

    /// Records that tokens up to `end` have been run.
    pub(super) fn ran_to(&mut self, end: usize) {
        self.done = end;
        if end >= self.n_prompt {
            self.compute_from = usize::MAX;
        } else if end > self.compute_from {
            self.compute_from = end;
        }
    }
}
