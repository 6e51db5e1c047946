//! The scheduler as its caller sees it.

use std::collections::VecDeque;
use std::time::Duration;

use onward_kernels::PAGE_TOKENS;

use super::sequence::Sequence;
use super::types::{Arrival, Counters, Expired, Id, Limits, Plan, Refused, Work};
use crate::kv::Cache;

/// Departures that the estimate of the next one remembers.
const REMEMBERED: u32 = 16;

/// Decides what a device does for many requests. It has the pages of the cache for itself.
///
/// Whatever happens between two plans only takes effect with the next: the pages and rows of a
/// plan stay valid until then.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) limits: Limits,
    pub(super) cache: Cache,
    /// In order of arrival, as are `running`, all of which arrived before.
    pub(super) waiting: VecDeque<Sequence>,
    pub(super) running: Vec<Sequence>,
    pub(super) free_slots: Vec<usize>,
    /// What the pass under way runs: whose tokens, up to where.
    pub(super) pass: Vec<(Id, usize)>,
    /// Steps asked for whose tokens were not taken.
    pub(super) under_way: usize,
    /// Whether the decoder knows of the rows.
    pub(super) has_rows: bool,
    /// Pages that the plan copies from.
    pub(super) pinned: Vec<u32>,
    /// The first of those waiting and the pages that were available when they did not suffice.
    pub(super) blocked: Option<(Id, usize)>,
    pub(super) counters: Counters,
    next_id: Id,
    departures: Departures,
}

/// When requests are done: how long one more may take to come to a slot.
#[derive(Debug, Default)]
struct Departures {
    last: Option<Duration>,
    interval: Duration,
}

impl Scheduler {
    /// A scheduler of no requests, for a cache of `n_pages` pages. Limits that are zero count as one.
    pub fn new(limits: Limits, n_pages: usize) -> Self {
        let cache = Cache::new(n_pages);
        let max_rows = limits.max_rows.max(1);
        let limits = Limits {
            // In a pass, every sequence has a row.
            n_slots: limits.n_slots.clamp(1, max_rows),
            max_rows,
            beside_decode: limits.beside_decode.max(1),
            n_ctx: limits.n_ctx.min(cache.n_pages() * PAGE_TOKENS),
            max_queue: limits.max_queue,
            run_ahead: limits.run_ahead.max(1),
        };
        Self {
            limits,
            cache,
            waiting: VecDeque::new(),
            running: Vec::new(),
            free_slots: (0..limits.n_slots).rev().collect(),
            pass: Vec::new(),
            under_way: 0,
            has_rows: false,
            pinned: Vec::new(),
            blocked: None,
            counters: Counters::default(),
            next_id: 1,
            departures: Departures::default(),
        }
    }

    /// The limits that it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a request. `now` is on the caller's clock, as everywhere.
    ///
    /// # Errors
    /// [`Refused`]; nothing is changed then.
    pub fn submit(&mut self, now: Duration, arrival: Arrival) -> Result<Id, Refused> {
        let n_prompt = arrival.prompt.len();
        let n_ctx = self.limits.n_ctx;
        if n_prompt == 0 {
            return Err(Refused::Empty);
        }
        if n_prompt > n_ctx {
            return Err(Refused::TooLong { n_prompt, n_ctx });
        }
        let waiting = self.waiting.len();
        if waiting >= self.limits.max_queue + self.free_slots.len() {
            return Err(Refused::QueueFull {
                waiting,
                retry_after: self.departures.interval.max(Duration::from_secs(1)),
            });
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting
            .push_back(Sequence::new(id, arrival, n_ctx, now));
        Ok(id)
    }

    /// Ends a request, be it done, broken or no longer wanted: no later plan names it. False where
    /// it is not there any more.
    pub fn finish(&mut self, id: Id) -> bool {
        if let Ok(index) = self.waiting.binary_search_by_key(&id, |waiting| waiting.id) {
            self.waiting.remove(index);
            return true;
        }
        match self.running_mut(id) {
            Some(sequence) => !std::mem::replace(&mut sequence.is_ended, true),
            None => false,
        }
    }

    /// What is to be done next. The work of the plan before has been done and reported.
    pub fn plan(&mut self, now: Duration) -> Plan {
        let mut plan = Plan::default();
        self.pass.clear();
        self.expire(now, &mut plan.expired);
        if self.under_way > 0 {
            plan.work = match self.wants_change() {
                true => Work::Drain,
                false => self.steps(),
            };
            return plan;
        }
        self.sweep(now);
        self.make_room(&mut plan);
        self.admit(&mut plan);
        self.adopt();
        plan.work = if self.running.iter().any(Sequence::needs_pass) {
            self.has_rows = false;
            self.pass()
        } else if self.running.iter().any(Sequence::writes) {
            self.steps()
        } else {
            Work::Idle
        };
        plan
    }

    /// The pass of the last plan has run: its tokens are in the cache.
    pub fn ran(&mut self) {
        for (id, end) in std::mem::take(&mut self.pass) {
            let Ok(index) = self.position(id) else {
                continue;
            };
            let sequence = &mut self.running[index];
            self.counters.pass_tokens += (end - sequence.done) as u64;
            sequence.ran_to(end);
            let done = &sequence.tokens[..end];
            // No row of the decoder's knows of the pages.
            self.cache.index(&mut sequence.holding, done, true);
        }
    }

    /// A sequence has drawn a token, by a pass or a step: all its tokens before are in the cache.
    /// Whether it may draw another; if not, it is to be [finished](Self::finish).
    pub fn drew(&mut self, id: Id, token: u32) -> bool {
        let Ok(index) = self.position(id) else {
            return false;
        };
        let sequence = &mut self.running[index];
        if sequence.is_ended || sequence.n_left() == 0 {
            return false;
        }
        sequence.ran_to(sequence.tokens.len());
        sequence.is_writing = true;
        let done = &sequence.tokens[..];
        if done.len().is_multiple_of(PAGE_TOKENS) {
            // The decoder's rows have the sequence's own pages.
            self.cache.index(&mut sequence.holding, done, false);
        }
        sequence.tokens.push(token);
        sequence.n_left() > 0
    }

    /// The decoder has taken on `n` steps, at most as many as the plan said.
    pub fn asked(&mut self, n: usize) {
        self.under_way += n;
        self.has_rows = true;
    }

    /// The tokens of one step were taken, one from each row that was not finished.
    pub fn stepped(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// No step is under way any more, and all tokens were taken.
    pub fn drained(&mut self) {
        self.under_way = 0;
        self.has_rows = false;
    }

    /// The pages of a running request, the one of position 0 first; they are those of the last
    /// plan.
    pub fn pages(&self, id: Id) -> &[u32] {
        let running = self.position(id).map(|index| &self.running[index]);
        running.map_or(&[], |sequence| sequence.holding.pages())
    }

    /// The tokens of a request, prompt and drawn ones.
    pub fn tokens(&self, id: Id) -> &[u32] {
        self.get(id).map_or(&[], |sequence| &sequence.tokens)
    }

    /// Tokens that a request may still draw.
    pub fn n_left(&self, id: Id) -> usize {
        self.get(id).map_or(0, Sequence::n_left)
    }

    /// Prompt tokens of a request that did not have to be computed for it.
    pub fn n_cached(&self, id: Id) -> usize {
        self.get(id).map_or(0, |sequence| sequence.n_cached)
    }

    /// Steps that were asked for and whose tokens were not taken.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Whether there is no request.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// How things stand.
    pub fn counters(&self) -> Counters {
        let pages = self.cache.n_pages();
        Counters {
            running: self.running.len(),
            waiting: self.waiting.len(),
            pages,
            pages_held: pages - self.cache.available(),
            pages_cached: self.cache.n_cached(),
            evictions: self.cache.n_evicted(),
            departure_interval: self.departures.interval,
            ..self.counters
        }
    }

    fn position(&self, id: Id) -> Result<usize, usize> {
        self.running.binary_search_by_key(&id, |running| running.id)
    }

    fn running_mut(&mut self, id: Id) -> Option<&mut Sequence> {
        let index = self.position(id).ok()?;
        self.running.get_mut(index)
    }

    fn get(&self, id: Id) -> Option<&Sequence> {
        match self.position(id) {
            Ok(index) => self.running.get(index),
            Err(_) => {
                let index = self.waiting.binary_search_by_key(&id, |waiting| waiting.id);
                self.waiting.get(index.ok()?)
            }
        }
    }

    /// Ends requests whose time is over.
    fn expire(&mut self, now: Duration, expired: &mut Vec<Expired>) {
        for running in &mut self.running {
            if !running.is_ended && running.is_late(now) {
                running.is_ended = true;
                expired.push(Expired {
                    id: running.id,
                    in_queue: false,
                });
            }
        }
        self.waiting.retain(|waiting| {
            let is_late = waiting.is_late_in_queue(now);
            if is_late {
                expired.push(Expired {
                    id: waiting.id,
                    in_queue: !waiting.was_preempted,
                });
            }
            !is_late
        });
    }

    /// Lets go of what ended requests and copies hold. No step is under way.
    fn sweep(&mut self, now: Duration) {
        for page in self.pinned.drain(..) {
            self.cache.let_go(page);
        }
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].is_ended {
                let sequence = self.running.remove(index);
                drop(self.leave(sequence));
                self.departures.count(now);
            } else {
                index += 1;
            }
        }
        if self.running.is_empty() && self.waiting.is_empty() {
            // What comes after an idle time says nothing of how long requests take.
            self.departures.last = None;
        }
    }

    /// Takes slot and pages from a sequence that was running; it can begin again.
    pub(super) fn leave(&mut self, mut sequence: Sequence) -> Sequence {
        let holding = std::mem::take(&mut sequence.holding);
        self.cache
            .release(holding, &sequence.tokens[..sequence.done]);
        self.free_slots.push(sequence.slot);
        self.has_rows = false;
        sequence.was_preempted = true;
        sequence.done = 0;
        sequence.is_writing = false;
        sequence
    }
}

impl Departures {
    fn count(&mut self, now: Duration) {
        if let Some(last) = self.last.replace(now) {
            let interval = now.saturating_sub(last);
            self.interval = match self.interval.is_zero() {
                true => interval,
                false => (self.interval * (REMEMBERED - 1) + interval) / REMEMBERED,
            };
        }
    }
}
