//! What must be true of each plan.

use onward_kernels::PAGE_TOKENS;

use super::server::{Client, Server};
use crate::schedule::{Admitted, Expired, Id, Piece, Plan, Row, Work};

impl Server<'_> {
    pub(super) fn check_plan(&mut self, plan: &Plan) {
        self.check_expired(&plan.expired);
        let is_settled = self.scheduler.under_way() == 0;
        assert!(is_settled || (plan.preempted.is_empty() && plan.admitted.is_empty()));
        self.check_preempted(&plan.preempted);
        assert!(plan.preempted.is_empty() || plan.admitted.is_empty());
        for admitted in &plan.admitted {
            self.check_admitted(admitted);
        }
        self.coverage.copies += plan.copies.len() as u64;
        let last_running = self
            .clients
            .iter()
            .rposition(|client| client.slot.is_some());
        let first_waiting = self.clients.iter().position(|client| client.slot.is_none());
        if let (Some(running), Some(waiting)) = (last_running, first_waiting) {
            assert!(running < waiting, "one was overtaken");
        }
        // With steps under way, those that run may all be gone already.
        assert!(!is_settled || first_waiting != Some(0), "the oldest waits");
        if let (0, Some(oldest)) = (self.scheduler.under_way(), self.clients.first()) {
            let id = oldest.id;
            let is_served = match &plan.work {
                Work::Pass(pieces) => pieces.iter().any(|piece| piece.id == id),
                Work::Steps { rows, n, .. } => *n > 0 && rows.iter().any(|row| row.id == id),
                Work::Idle | Work::Drain => false,
            };
            assert!(is_served, "the oldest is not served");
        }
    }

    /// What a sequence is said to have is there, and nobody writes where another one reads: to the
    /// page of the next token, or any behind it.
    pub(super) fn check_places(&mut self) {
        for running in &self.scheduler.running {
            let client = self
                .clients
                .iter_mut()
                .find(|client| client.id == running.id);
            if let Some(client) = client.filter(|client| client.done < running.done) {
                let pages = running.holding.pages();
                self.device.check(pages, &client.hashes, running.done);
                client.done = running.done;
            }
        }
        for client in self.clients.iter().filter(|client| client.slot.is_some()) {
            let pages = self.scheduler.pages(client.id);
            let own = pages.get(client.done / PAGE_TOKENS..).unwrap_or_default();
            for other in self.clients.iter().filter(|other| other.id != client.id) {
                let shared = self
                    .scheduler
                    .pages(other.id)
                    .iter()
                    .find(|page| own.contains(page));
                assert_eq!(
                    shared, None,
                    "{} writes to a page of {}",
                    client.id, other.id
                );
            }
        }
    }

    fn check_expired(&mut self, expired: &[Expired]) {
        // The plan was made a moment ago.
        let now = self.now() - std::time::Duration::from_millis(1);
        for &Expired { id, in_queue } in expired {
            let submitted = self.client(id).submitted();
            let client = self.client(id);
            let arrival = &client.visit.arrival;
            assert_eq!(in_queue, client.slot.is_none() && !client.was_preempted);
            let over = |limit: Option<_>| limit.is_some_and(|limit| submitted + limit <= now);
            assert!(over(arrival.timeout) || (in_queue && over(arrival.queue_timeout)));
            assert!(
                !self.scheduler.finish(id),
                "an expired request is still there"
            );
            self.forget(id);
            self.coverage.expired += 1;
        }
        for client in &self.clients {
            let (arrival, submitted) = (&client.visit.arrival, client.submitted());
            let over = |limit: Option<_>| limit.is_some_and(|limit| submitted + limit <= now);
            let never_served = client.slot.is_none() && !client.was_preempted;
            assert!(!over(arrival.timeout), "its time is over");
            assert!(!never_served || !over(arrival.queue_timeout));
        }
    }

    fn check_preempted(&mut self, preempted: &[Id]) {
        for &id in preempted {
            let last = self.clients.iter().rfind(|client| client.slot.is_some());
            assert_eq!(
                last.map(|client| client.id),
                Some(id),
                "not the latest is preempted"
            );
            assert_ne!(self.clients[0].id, id, "the oldest is preempted");
            let client = self.client(id);
            let text = client.text[..client.done].to_vec();
            (client.slot, client.done, client.is_writing) = (None, 0, false);
            client.was_preempted = true;
            self.texts.push(text);
            self.coverage.preempted += 1;
        }
    }

    fn check_admitted(&mut self, admitted: &Admitted) {
        let &Admitted {
            id,
            slot,
            cached,
            is_resumed,
        } = admitted;
        let first = self.clients.iter().find(|client| client.slot.is_none());
        assert_eq!(
            first.map(|client| client.id),
            Some(id),
            "not the first is admitted"
        );
        let of_slot = self.clients.iter().find(|client| client.slot == Some(slot));
        assert!(of_slot.is_none() && slot < self.scheduler.limits().n_slots);
        let client = self.client(id);
        assert_eq!(client.was_preempted, is_resumed);
        let text = client.text.clone();
        assert_eq!(text, self.scheduler.tokens(id), "a token is lost");
        self.check_hits(id, cached);
        let client = self.client(id);
        (client.slot, client.done) = (Some(slot), cached);
        self.coverage.resumed += u64::from(is_resumed);
    }

    /// What the cache spares a request is what it has heard of.
    fn check_hits(&mut self, id: Id, cached: usize) {
        let client = self.client(id);
        let text = client.text.clone();
        let wanted_from = match client.was_preempted {
            true => usize::MAX,
            false => client.visit.arrival.compute_from,
        };
        let sparable = (text.len() - 1).min(wanted_from);
        let most = self.heard(&text, true).min(sparable);
        assert!(
            cached <= most,
            "{cached} tokens are cached, but only {most} were run"
        );
        let counters = self.scheduler.counters();
        if counters.evictions == 0 && wanted_from == usize::MAX {
            let least = self.heard(&text, false).min(sparable);
            // Where there is little room, a page is not copied.
            let has_room =
                counters.pages >= counters.pages_held + self.scheduler.limits().n_slots + 2;
            let least = match has_room {
                true => least,
                false => least / PAGE_TOKENS * PAGE_TOKENS,
            };
            assert!(
                cached >= least,
                "{cached} tokens are found, but {least} were there"
            );
        }
        self.coverage.forks += u64::from(!cached.is_multiple_of(PAGE_TOKENS));
    }

    pub(super) fn check_pass(&mut self, pieces: &[Piece]) {
        assert_eq!(self.scheduler.under_way(), 0, "a pass beside steps");
        let limits = *self.scheduler.limits();
        let (mut n_written, mut n_read) = (0, 0);
        for piece in pieces {
            let n_left = self.scheduler.n_left(piece.id);
            let client = self.client(piece.id);
            assert_eq!(
                client.slot,
                Some(piece.slot),
                "request {} has no slot",
                piece.id
            );
            assert_eq!(piece.tokens.start.max(client.done), piece.tokens.start);
            let is_whole = piece.tokens.end == client.text.len();
            assert_eq!(piece.draws, is_whole && n_left > 0);
            assert_eq!(piece.starts, piece.draws && !client.is_writing);
            match client.is_writing {
                true => n_written += piece.tokens.len(),
                false => n_read += piece.tokens.len(),
            }
            let start = piece.tokens.start;
            let hashes = client.hashes.clone();
            client.done = start;
            self.device
                .check(self.scheduler.pages(piece.id), &hashes, start);
        }
        let writing = self.clients.iter().filter(|client| client.is_writing);
        let needs_pass = writing.clone().any(|client| client.visit.arrival.by_pass);
        assert_eq!(n_written, writing.count(), "each that writes has a row");
        assert!(n_read > 0 || needs_pass, "steps would do");
        assert!(n_written + n_read <= limits.max_rows);
        assert!(n_written == 0 || n_read <= limits.beside_decode);
    }

    pub(super) fn check_steps(&mut self, rows: &[Row], n: usize, is_new: bool) {
        let under_way = self.scheduler.under_way();
        assert!(under_way + n > 0 && under_way + n <= self.scheduler.limits().run_ahead);
        let running = self.clients.iter().filter(|client| client.slot.is_some());
        let running: Vec<_> = running.map(|client| (client.id, client.slot)).collect();
        let planned: Vec<_> = rows.iter().map(|row| (row.id, Some(row.slot))).collect();
        assert_eq!(planned, running, "those that run are those of the steps");
        assert!(under_way == 0 || !is_new);
        let needs_pass = |client: &Client<'_>| client.visit.arrival.by_pass;
        assert!(
            !self
                .clients
                .iter()
                .any(|client| client.slot.is_some() && needs_pass(client))
        );
        if !is_new {
            assert!(self.device.row_slots().eq(rows.iter().map(|row| row.slot)));
        }
    }
}
