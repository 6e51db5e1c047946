//! A server on top of the scheduler, which believes nothing that it is told.

use std::time::Duration;

use onward_kernels::PAGE_TOKENS;

use super::device::{Device, STOP, chain, hashes};
use super::random::Random;
use super::trace::{Trace, Visit};
use crate::kv::common;
use crate::schedule::{Id, Piece, Refused, Row, Scheduler, Work};

/// A request that was taken and is not gone.
pub(super) struct Client<'a> {
    pub(super) id: Id,
    pub(super) visit: &'a Visit,
    /// Its prompt and what it has drawn, and the hashes of all beginnings of it.
    pub(super) text: Vec<u32>,
    pub(super) hashes: Vec<u64>,
    pub(super) slot: Option<usize>,
    /// Tokens in the cache.
    pub(super) done: usize,
    pub(super) is_writing: bool,
    pub(super) was_preempted: bool,
    /// Prompt tokens that passes ran for it.
    pub(super) n_computed: usize,
    submitted: u64,
    /// The plan with which it is gone at the latest.
    last_plan: u64,
}

/// What happened in a trace: what did not happen was not tested.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    pub(super) plans: u64,
    pub(super) served: u64,
    pub(super) cancelled: u64,
    pub(super) expired: u64,
    pub(super) refused: u64,
    pub(super) preempted: u64,
    pub(super) resumed: u64,
    pub(super) copies: u64,
    pub(super) evictions: u64,
    pub(super) drains: u64,
    pub(super) hit_tokens: u64,
    pub(super) forks: u64,
    /// The longest wait, in hundredths of its bound.
    pub(super) longest: u64,
}

impl Coverage {
    /// Whether everything that is to be tested has happened.
    pub(super) fn is_complete(&self) -> bool {
        let Self {
            plans,
            served,
            cancelled,
            expired,
            refused,
            preempted,
            resumed,
            copies,
            evictions,
            drains,
            hit_tokens,
            forks,
            longest,
        } = *self;
        [
            plans, served, cancelled, expired, refused, preempted, resumed, copies, evictions,
            drains, hit_tokens, forks, longest,
        ]
        .iter()
        .all(|&count| count > 0)
    }
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.plans += other.plans;
        self.served += other.served;
        self.cancelled += other.cancelled;
        self.expired += other.expired;
        self.refused += other.refused;
        self.preempted += other.preempted;
        self.resumed += other.resumed;
        self.copies += other.copies;
        self.evictions += other.evictions;
        self.drains += other.drains;
        self.hit_tokens += other.hit_tokens;
        self.forks += other.forks;
        self.longest = self.longest.max(other.longest);
    }
}

impl Client<'_> {
    /// When it was submitted.
    pub(super) fn submitted(&self) -> Duration {
        Duration::from_millis(self.submitted)
    }
}

pub(super) struct Server<'a> {
    pub(super) random: Random,
    pub(super) scheduler: Scheduler,
    pub(super) device: Device,
    /// Plans so far; also the time in milliseconds.
    pub(super) tick: u64,
    pub(super) clients: Vec<Client<'a>>,
    /// Texts of which the cache has heard.
    pub(super) texts: Vec<Vec<u32>>,
    pub(super) coverage: Coverage,
}

/// Serves a whole trace.
pub(super) fn serve(trace: &Trace, random: Random) -> Coverage {
    let scheduler = Scheduler::new(trace.limits, trace.n_pages);
    let mut server = Server {
        random,
        device: Device::new(trace.n_pages, trace.limits.n_slots),
        scheduler,
        tick: 0,
        clients: Vec::new(),
        texts: Vec::new(),
        coverage: Coverage::default(),
    };
    let mut next = 0;
    while next < trace.visits.len() || !server.clients.is_empty() {
        while let Some(visit) = trace
            .visits
            .get(next)
            .filter(|visit| visit.at <= server.tick)
        {
            server.submit(visit);
            next += 1;
        }
        server.turn();
    }
    server.close()
}

impl<'a> Server<'a> {
    pub(super) fn now(&self) -> Duration {
        Duration::from_millis(self.tick)
    }

    fn submit(&mut self, visit: &'a Visit) {
        let n_waiting = self
            .clients
            .iter()
            .filter(|client| client.slot.is_none())
            .count();
        let limits = *self.scheduler.limits();
        match self.scheduler.submit(self.now(), visit.arrival.clone()) {
            Ok(id) => {
                assert!(
                    n_waiting < limits.max_queue + limits.n_slots,
                    "the queue is full"
                );
                let work: u64 = self
                    .clients
                    .iter()
                    .map(|client| self.work(client.visit))
                    .sum();
                self.clients.push(Client {
                    id,
                    visit,
                    text: visit.arrival.prompt.clone(),
                    hashes: hashes(&visit.arrival.prompt),
                    slot: None,
                    done: 0,
                    is_writing: false,
                    was_preempted: false,
                    n_computed: 0,
                    submitted: self.tick,
                    last_plan: self.tick + work + self.work(visit),
                });
            }
            Err(Refused::QueueFull {
                waiting,
                retry_after,
            }) => {
                assert!(waiting == n_waiting && waiting >= limits.max_queue);
                assert!(retry_after >= Duration::from_secs(1));
                self.coverage.refused += 1;
            }
            Err(Refused::TooLong { n_prompt, n_ctx }) => assert!(n_prompt > n_ctx),
            Err(refused) => panic!("{refused}"),
        }
    }

    /// Plans that a request takes at most once it is the oldest: it is never preempted then, each
    /// pass runs at least so many of its tokens, each further pass or step draws one; and between
    /// two of them the decoder is drained at most once.
    fn work(&self, visit: &Visit) -> u64 {
        let limits = self.scheduler.limits();
        let least = (limits.max_rows - (limits.n_slots - 1)).min(limits.beside_decode);
        let n_drawn = visit.answer.len();
        let n_passes = (visit.arrival.prompt.len() + n_drawn).div_ceil(least);
        2 * (n_passes + n_drawn) as u64 + 2
    }

    /// One plan, and the work of it.
    fn turn(&mut self) {
        let is_gone = |client: &Client| client.visit.leaves.is_some_and(|at| at <= self.tick);
        let gone: Vec<Id> = self
            .clients
            .iter()
            .filter(|client| is_gone(client))
            .map(|client| client.id)
            .collect();
        for id in gone {
            self.coverage.cancelled += 1;
            self.leave(id);
        }
        let plan = self.scheduler.plan(self.now());
        self.tick += 1;
        let is_due = |client: &Client| client.last_plan < self.tick;
        assert!(!self.clients.iter().any(is_due), "one waits for ever");
        self.coverage.plans += 1;
        self.check_plan(&plan);
        self.device.copy(&plan.copies);
        self.check_places();
        if self.random.chance(16) {
            self.audit();
        }
        match plan.work {
            Work::Idle => assert!(self.clients.is_empty(), "somebody waits for nothing"),
            Work::Pass(pieces) => self.pass(&pieces),
            Work::Steps { rows, n, is_new } => self.steps(&rows, n, is_new),
            Work::Drain => self.drain(),
        }
    }

    pub(super) fn client(&mut self, id: Id) -> &mut Client<'a> {
        let client = self.clients.iter_mut().find(|client| client.id == id);
        client.expect("a request that is not there is served")
    }

    /// Ends a request.
    fn leave(&mut self, id: Id) {
        assert!(self.scheduler.finish(id), "request {id} is lost");
        assert!(!self.scheduler.finish(id), "request {id} ends twice");
        self.forget(id);
    }

    pub(super) fn forget(&mut self, id: Id) {
        let index = self.clients.iter().position(|client| client.id == id);
        let client = self.clients.remove(index.expect("a request ends twice"));
        let bound = client.last_plan - client.submitted;
        let waited = self.tick - client.submitted;
        assert!(
            waited <= bound,
            "request {id} took {waited} plans, and at most {bound} are needed"
        );
        self.coverage.longest = self.coverage.longest.max(100 * waited / bound);
        self.texts.push(client.text[..client.done].to_vec());
    }

    fn pass(&mut self, pieces: &[Piece]) {
        self.check_pass(pieces);
        let mut drawn = Vec::new();
        for piece in pieces {
            let pages = self.scheduler.pages(piece.id);
            let tokens = &self.scheduler.tokens(piece.id)[piece.tokens.clone()];
            let text = self.device.run(tokens, piece.tokens.start, pages);
            let n_left = self.scheduler.n_left(piece.id);
            let client = self.client(piece.id);
            assert_eq!(text, client.hashes[piece.tokens.end - 1]);
            let n_prompt = client.visit.arrival.prompt.len();
            client.n_computed += piece
                .tokens
                .end
                .min(n_prompt)
                .saturating_sub(piece.tokens.start);
            client.done = piece.tokens.end;
            if piece.draws {
                drawn.push((piece, text, n_left));
            }
        }
        self.scheduler.ran();
        for (piece, text, n_left) in drawn {
            if piece.starts {
                self.device.start(piece.slot, n_left);
            }
            self.device.draw(piece.slot, text);
            let token = self.device.take(piece.slot).expect("a token was drawn");
            self.drew(piece.id, token);
        }
        for piece in pieces {
            let client = self.clients.iter().find(|client| client.id == piece.id);
            let n_tokens = client.map(|client| client.text.len());
            if !piece.draws && n_tokens == Some(piece.tokens.end) {
                self.finish(piece.id);
            }
        }
    }

    fn steps(&mut self, rows: &[Row], n: usize, is_new: bool) {
        self.check_steps(rows, n, is_new);
        if is_new {
            let scheduler = &self.scheduler;
            let row = |row: &Row| (row.slot, scheduler.tokens(row.id), scheduler.pages(row.id));
            self.device.set_rows(rows.iter().map(row));
        } else {
            for (index, row) in rows.iter().enumerate() {
                self.device.grow(index, self.scheduler.pages(row.id));
            }
        }
        // A decoder may take on fewer than it is asked for.
        let n = n.min(self.random.in_range(1, n.max(1)));
        self.device.ask(n);
        self.scheduler.asked(n);
        for _ in 0..self.random.below(4) {
            self.device.proceed();
        }
        for row in rows {
            let token = self.device.take(row.slot).expect("a step is under way");
            self.drew(row.id, token);
        }
        self.scheduler.stepped();
    }

    fn drain(&mut self) {
        assert!(self.scheduler.under_way() > 0, "nothing is to be drained");
        self.coverage.drains += 1;
        self.device.halt();
        let slots: Vec<usize> = self.device.row_slots().collect();
        for slot in slots {
            while let Some(token) = self.device.take(slot) {
                let client = self.clients.iter().find(|client| client.slot == Some(slot));
                if let Some(id) = client.map(|client| client.id) {
                    self.drew(id, token);
                }
            }
        }
        self.scheduler.drained();
    }

    /// A token has come.
    fn drew(&mut self, id: Id, token: u32) {
        let client = self.client(id);
        let n_prompt = client.visit.arrival.prompt.len();
        let n_before = client.text.len() - n_prompt;
        assert_eq!(
            client.visit.answer.get(n_before),
            Some(&token),
            "not what it is alone"
        );
        if !client.is_writing && !client.was_preempted {
            let n_computed = client.n_computed;
            assert_eq!(self.scheduler.n_cached(id) + n_computed, n_prompt);
        }
        // Whether the scheduler hears of a token that is of no use is up to the server.
        let is_told = token != STOP || self.random.chance(2);
        let client = self.client(id);
        client.is_writing = true;
        if is_told {
            client.done = client.text.len();
        }
        client
            .hashes
            .push(chain(client.hashes[client.text.len() - 1], token));
        client.text.push(token);
        let may_go_on = is_told && self.scheduler.drew(id, token) && token != STOP;
        if !may_go_on {
            self.finish(id);
        }
    }

    fn finish(&mut self, id: Id) {
        let client = self.client(id);
        let n_prompt = client.visit.arrival.prompt.len();
        assert_eq!(client.text[n_prompt..], client.visit.answer, "request {id}");
        self.coverage.served += 1;
        self.leave(id);
    }

    /// Nothing is left behind.
    fn close(mut self) -> Coverage {
        while self.scheduler.under_way() > 0 {
            self.turn();
        }
        self.turn();
        self.audit();
        let counters = self.scheduler.counters();
        assert!(
            self.scheduler.is_idle() && counters.pages_held == 0,
            "a page is lost"
        );
        self.coverage.evictions = counters.evictions;
        self.coverage.hit_tokens = counters.hit_tokens;
        self.coverage
    }

    /// How much of a text the cache has heard of, by texts that are done or have been run so far.
    pub(super) fn heard(&self, text: &[u32], running: bool) -> usize {
        let now = self.clients.iter().filter(|_| running);
        let now = now.map(|client| &client.text[..client.done]);
        let texts = self.texts.iter().map(Vec::as_slice).chain(now);
        texts.map(|other| common(text, other)).max().unwrap_or(0)
    }

    /// The cache's own books are right, and pages hold what it says that they hold.
    pub(super) fn audit(&self) {
        let scheduler = &self.scheduler;
        let pages = scheduler
            .running
            .iter()
            .flat_map(|running| running.holding.pages());
        scheduler.cache.audit(pages.chain(&scheduler.pinned));
        for (page, text) in scheduler.cache.known() {
            let first = (text.len() - 1) / PAGE_TOKENS * PAGE_TOKENS;
            let expected = &hashes(&text)[first..];
            let held = &self.device.page(page)[..expected.len()];
            assert_eq!(held, expected, "page {page} is not what the index says");
        }
    }
}
