//! What the device does next.

use std::collections::HashSet;

use onward_kernels::PAGE_TOKENS;

use super::scheduler::Scheduler;
use super::sequence::Sequence;
use super::types::{Piece, Row, Work};
use crate::kv::Holding;

/// Pages that are being filled by a pass: what is before them, and their tokens.
type Claims<'a> = HashSet<(Option<u32>, &'a [u32])>;

impl Scheduler {
    /// A pass over the last tokens of those that write and what fits of those that read.
    pub(super) fn pass(&mut self) -> Work {
        let writers = self.running.iter().filter(|sequence| sequence.writes());
        let mut pieces: Vec<_> = writers.map(|sequence| piece(sequence, 1)).collect();
        let mut budget = self.limits.max_rows - pieces.len();
        if !pieces.is_empty() {
            budget = budget.min(self.limits.beside_decode);
        }
        let mut claims = Claims::new();
        for sequence in self.running.iter().filter(|sequence| sequence.is_reading()) {
            if budget == 0 {
                break;
            }
            if !waits(sequence, &mut claims) {
                let piece = piece(sequence, budget);
                budget -= piece.tokens.len();
                pieces.push(piece);
            }
        }
        let ends = pieces.iter().map(|piece| (piece.id, piece.tokens.end));
        self.pass.extend(ends);
        Work::Pass(pieces)
    }

    /// Steps of those that write, as many as may be under way and have pages.
    pub(super) fn steps(&mut self) -> Work {
        let most = self.limits.run_ahead;
        let room = most.saturating_sub(self.under_way);
        let n_left = self.running.iter().map(Sequence::n_left).max();
        let wanted = n_left.unwrap_or(0).saturating_sub(self.under_way);
        // A decoder that runs far ahead is asked once half of its steps are done: seldom, and
        // before it runs out of them.
        let mut n = match room >= most / 2 {
            true => room.min(wanted),
            false => 0,
        };
        while n > 0 && self.missing(n) > self.cache.available() {
            n /= 2;
        }
        if n > 0 {
            let ahead = self.under_way + n;
            for sequence in self.running.iter_mut().filter(|sequence| sequence.writes()) {
                let room = sequence.room_for(ahead);
                self.cache.grow(&mut sequence.holding, room);
            }
        }
        let rows = self.running.iter().filter(|sequence| sequence.is_writing);
        Work::Steps {
            rows: rows
                .map(|&Sequence { id, slot, .. }| Row { id, slot })
                .collect(),
            n,
            is_new: !self.has_rows,
        }
    }

    /// Pages that `n` more steps need further.
    fn missing(&self, n: usize) -> usize {
        let ahead = self.under_way + n;
        let writers = self.running.iter().filter(|sequence| sequence.writes());
        let missing = |sequence: &Sequence| {
            let holding: &Holding = &sequence.holding;
            holding.missing(sequence.room_for(ahead))
        };
        writers.map(missing).sum()
    }

    /// Whether something can only happen once no step is under way.
    pub(super) fn wants_change(&self) -> bool {
        self.can_admit() || self.running.iter().any(|sequence| sequence.is_ended)
    }
}

/// The next tokens of a sequence, at most `budget`.
fn piece(sequence: &Sequence, budget: usize) -> Piece {
    let end = sequence.tokens.len().min(sequence.done + budget);
    let draws = end == sequence.tokens.len() && sequence.n_left() > 0;
    Piece {
        id: sequence.id,
        slot: sequence.slot,
        tokens: sequence.done..end,
        draws,
        starts: draws && !sequence.is_writing,
    }
}

/// Whether an earlier sequence fills the page that this one needs next, which it can have
/// afterwards. Otherwise it fills the page itself, which later ones will find in `claims`.
fn waits<'a>(sequence: &'a Sequence, claims: &mut Claims<'a>) -> bool {
    let first = sequence.done / PAGE_TOKENS * PAGE_TOKENS;
    let end = first + PAGE_TOKENS;
    let Some(page) = sequence.tokens.get(first..end) else {
        return false;
    };
    let is_new = claims.insert((sequence.holding.last_indexed(), page));
    !is_new && end <= sequence.sparable()
}
