//! Who gets slots and pages, and who loses them.

use onward_kernels::PAGE_TOKENS;

use super::scheduler::Scheduler;
use super::sequence::Sequence;
use super::types::{Admitted, PageCopy, Plan};
use crate::kv::{Match, Tail, common};

/// One part in so many of the cache is left to those that run when a request is admitted, at most.
const HEADROOM: usize = 8;

impl Scheduler {
    /// Sees to it that each sequence that writes has a page for its next token: the latest ones
    /// lose theirs if need be, the oldest never.
    pub(super) fn make_room(&mut self, plan: &mut Plan) {
        let mut index = 0;
        while let Some(sequence) = self.running.get_mut(index) {
            let needed = match sequence.writes() {
                true => sequence.room_for(1),
                false => 0,
            };
            if self.cache.grow(&mut sequence.holding, needed) {
                index += 1;
            } else if let Some(latest) = self.running.pop() {
                plan.preempted.push(latest.id);
                self.counters.preemptions += 1;
                let latest = self.leave(latest);
                self.waiting.push_front(latest);
            }
        }
    }

    /// Admits requests in order, as far as slots and pages go.
    pub(super) fn admit(&mut self, plan: &mut Plan) {
        // Whoever just lost its pages would take them back.
        while plan.preempted.is_empty() && self.can_admit() {
            if !self.admit_first(plan) {
                let first = self.waiting.front().map(|first| first.id);
                self.blocked = first.map(|id| (id, self.cache.available()));
                return;
            }
        }
    }

    /// Whether it is worth a try to admit the first of those waiting.
    pub(super) fn can_admit(&self) -> bool {
        let Some(first) = self.waiting.front() else {
            return false;
        };
        let is_blocked = self.blocked.is_some_and(|(id, available)| {
            id == first.id && self.cache.available() <= available && !self.running.is_empty()
        });
        !self.free_slots.is_empty() && !is_blocked
    }

    /// Gives the first of those waiting its slot and pages; false where there are too few.
    fn admit_first(&mut self, plan: &mut Plan) -> bool {
        let Some(sequence) = self.waiting.front() else {
            return false;
        };
        let mut found = self.find(sequence);
        if !self.has_room(sequence, &found) {
            // A page that is copied takes room beside its copy.
            found.tail = None;
            if !self.has_room(sequence, &found) {
                return false;
            }
        }
        let (Some(mut sequence), Some(slot)) = (self.waiting.pop_front(), self.free_slots.pop())
        else {
            return false;
        };
        let cached = found.n_tokens();
        sequence.slot = slot;
        sequence.done = cached;
        sequence.holding = self.cache.hold_all(&found);
        let copied = match found.tail {
            Some(tail) if tail.is_takeable => {
                self.cache.take_over(&mut sequence.holding, tail.page);
                None
            }
            tail => tail.map(|tail| tail.page),
        };
        if let Some(from) = copied {
            // Not to be evicted before it is copied.
            self.cache.hold(from);
            self.pinned.push(from);
        }
        let room = sequence.room_to_begin();
        self.cache.grow(&mut sequence.holding, room);
        if let Some(from) = copied {
            let to = sequence.holding.pages()[found.pages.len()];
            plan.copies.push(PageCopy { from, to });
        }
        plan.admitted.push(Admitted {
            id: sequence.id,
            slot,
            cached,
            is_resumed: sequence.was_preempted,
        });
        if !sequence.was_preempted {
            self.counters.prompt_tokens += sequence.n_prompt() as u64;
        }
        self.blocked = None;
        self.running.push(sequence);
        self.count_hits(self.running.len() - 1, cached);
        true
    }

    /// What the cache has of the sequence, be it pages in the index or the page that another one
    /// is writing.
    fn find(&self, sequence: &Sequence) -> Match {
        let limit = sequence.sparable();
        let mut found = self.cache.find(&sequence.tokens, limit);
        let from = found.pages.len() * PAGE_TOKENS;
        let wanted = &sequence.tokens[from..limit.min(from + PAGE_TOKENS)];
        for other in &self.running {
            let (holding, done) = (&other.holding, &other.tokens[..other.done]);
            let is_alike = holding.n_indexed() == found.pages.len()
                && holding.last_indexed() == found.pages.last().copied();
            let n = match done.get(from..) {
                Some(done) if is_alike => common(wanted, done),
                _ => 0,
            };
            if n > found.tail.map_or(0, |tail| tail.n) {
                found.tail = Some(Tail {
                    page: holding.pages()[found.pages.len()],
                    n,
                    is_takeable: false,
                });
            }
        }
        found
    }

    /// Whether there are pages for the sequence, beside what `found` spares it.
    fn has_room(&self, sequence: &Sequence, found: &Match) -> bool {
        let is_taken = found.tail.is_some_and(|tail| tail.is_takeable);
        let known = found.pages.len() + usize::from(is_taken);
        let missing = sequence.room_to_begin().div_ceil(PAGE_TOKENS) - known;
        // Those that run will want pages too; if they got none, they would at once be preempted.
        let headroom = self.running.len().min(self.cache.n_pages() / HEADROOM);
        missing + headroom + self.cache.n_cached_in(found) <= self.cache.available()
    }

    /// Has the sequences that read go on from pages that others have filled meanwhile.
    pub(super) fn adopt(&mut self) {
        for index in 0..self.running.len() {
            let sequence = &mut self.running[index];
            if !sequence.is_reading() {
                continue;
            }
            let (tokens, limit) = (&sequence.tokens, sequence.sparable());
            let done = self
                .cache
                .adopt(&mut sequence.holding, tokens, sequence.done, limit);
            let spared = done - std::mem::replace(&mut sequence.done, done);
            self.count_hits(index, spared);
        }
    }

    fn count_hits(&mut self, index: usize, spared: usize) {
        let sequence = &mut self.running[index];
        if !sequence.was_preempted {
            sequence.n_cached += spared;
            self.counters.hit_tokens += spared as u64;
        }
    }
}
