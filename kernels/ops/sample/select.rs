//! Selection without sorting: which tokens make up a prefix of the order of probability.
//!
//! The order is (logit descending, id ascending). Two steps: the block maxima give a logit
//! above which enough tokens must lie, and only blocks that reach it are read; then a radix
//! search on the candidates' bits finds where the prefix ends, in at most four passes.

use super::cpu::{self, BLOCK};
use super::fixed::point_in;
use super::row::Row;

/// Buckets of one pass of the radix search: eight bits.
const BUCKETS: usize = 256;
/// From how many block maxima the search for a prefix of unknown length starts, and how fast
/// the number grows while the prefix is longer.
const FIRST_RANK: usize = 16;
const RANK_GROWTH: usize = 8;

/// What a prefix must reach.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// This many tokens, at least one.
    Count(usize),
    /// This much mass, at least one unit.
    Mass(u64),
}

/// The end of a prefix: everything above `key`, and of the tokens at `key` those up to `token`.
#[derive(Clone, Copy)]
struct End {
    key: u32,
    token: u32,
}

/// Tokens that may be drawn, by ascending id.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) tokens: Vec<u32>,
    pub(super) logits: Vec<f32>,
    pub(super) weights: Vec<u64>,
    /// Copy of the block maxima to select in.
    maxima: Vec<f32>,
    /// Indices of the candidates among which the search still looks.
    live: Vec<u32>,
}

/// Maps logits to integers of the same order; −0 and 0 are equal.
#[inline(always)]
pub(super) fn order_key(logit: f32) -> u32 {
    let bits = (logit + 0.0).to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

impl Candidates {
    /// Collects the shortest prefix of the row that reaches `goal`; where it would go on below
    /// `floor`, everything down to there.
    pub(super) fn take_prefix(&mut self, row: Row<'_>, goal: Goal, floor: f32) {
        let n_blocks = row.summary.maxima.len();
        // Each of the n greatest maxima is a token: n of them hold a prefix of n tokens.
        let mut rank = match goal {
            Goal::Count(count) => count.min(n_blocks / 4),
            Goal::Mass(_) => FIRST_RANK.min(n_blocks / 4),
        };
        while let Some(least) = self.nth_maximum(row, rank).filter(|&least| least > floor) {
            self.gather(row, least);
            if self.amount(goal) >= goal.amount() {
                return self.cut(goal);
            }
            rank = rank.saturating_mul(RANK_GROWTH);
        }
        self.gather(row, floor);
        self.cut(goal);
    }

    /// The `rank`th greatest block maximum; none where most blocks would be read anyway.
    fn nth_maximum(&mut self, row: Row<'_>, rank: usize) -> Option<f32> {
        if rank == 0 || rank > row.summary.maxima.len() / 2 {
            return None;
        }
        self.maxima.clear();
        self.maxima.extend_from_slice(&row.summary.maxima);
        let descending = |a: &f32, b: &f32| b.total_cmp(a);
        let (_, nth, _) = self.maxima.select_nth_unstable_by(rank - 1, descending);
        Some(*nth)
    }

    /// Collects all tokens whose logit is at least `least`, which is a prefix.
    pub(super) fn gather(&mut self, row: Row<'_>, least: f32) {
        self.tokens.clear();
        self.logits.clear();
        let blocks = row.logits.chunks(BLOCK).zip(&row.summary.maxima);
        let (mut tokens, mut found) = ([0u32; BLOCK], [0f32; BLOCK]);
        for (block, (logits, &maximum)) in blocks.enumerate() {
            if maximum < least {
                continue;
            }
            // Written always, counted if wanted: a branch here would be a coin toss.
            let mut n_found = 0;
            for (i, &logit) in logits.iter().enumerate() {
                tokens[n_found % BLOCK] = (block * BLOCK + i) as u32;
                found[n_found % BLOCK] = logit;
                n_found += usize::from(logit >= least);
            }
            self.tokens.extend_from_slice(&tokens[..n_found]);
            self.logits.extend_from_slice(&found[..n_found]);
        }
        self.weights.resize(self.tokens.len(), 0);
        let max = row.summary.max;
        cpu::weights(row.isa, &self.logits, max, row.scale, &mut self.weights);
    }

    /// The mass of all candidates.
    pub(super) fn mass(&self) -> u64 {
        self.weights.iter().sum()
    }

    /// What all candidates together contribute to `goal`.
    fn amount(&self, goal: Goal) -> u64 {
        match goal {
            Goal::Count(_) => self.tokens.len() as u64,
            Goal::Mass(_) => self.mass(),
        }
    }

    /// Drops what is behind the shortest prefix that reaches `goal`; nothing if none does.
    pub(super) fn cut(&mut self, goal: Goal) {
        let Some(end) = self.end(goal) else {
            return;
        };
        let mut kept = 0;
        for i in 0..self.tokens.len() {
            let (token, key) = (self.tokens[i], order_key(self.logits[i]));
            self.tokens[kept] = token;
            self.logits[kept] = self.logits[i];
            self.weights[kept] = self.weights[i];
            kept += usize::from((key > end.key) | ((key == end.key) & (token <= end.token)));
        }
        self.tokens.truncate(kept);
        self.logits.truncate(kept);
        self.weights.truncate(kept);
    }

    /// Finds the last token of the shortest prefix that reaches `goal`.
    fn end(&mut self, goal: Goal) -> Option<End> {
        let Candidates {
            tokens,
            logits,
            weights,
            live,
            ..
        } = self;
        let key = |i: u32| order_key(logits[i as usize]);
        let amount = |i: u32| match goal {
            Goal::Count(_) => 1,
            Goal::Mass(_) => weights[i as usize],
        };
        let mut missing = goal.amount();
        live.clear();
        live.extend(0..tokens.len() as u32);
        loop {
            let (low, high) = live.iter().fold((u32::MAX, 0), |(low, high), &i| {
                (low.min(key(i)), high.max(key(i)))
            });
            if low >= high {
                break;
            }
            let shift = (high - low).ilog2().saturating_sub(BUCKETS.ilog2() - 1);
            let bucket = |i: u32| ((key(i) - low) >> shift) as usize;
            let mut buckets = [0u64; BUCKETS];
            for &i in live.iter() {
                buckets[bucket(i)] += amount(i);
            }
            let last = (0..BUCKETS).rev().find(|&b| {
                let reached = buckets[b] >= missing;
                missing -= if reached { 0 } else { buckets[b] };
                reached
            })?;
            let mut n_live = 0;
            for j in 0..live.len() {
                live[n_live] = live[j];
                n_live += usize::from(bucket(live[j]) == last);
            }
            live.truncate(n_live);
        }
        // Equal logits: their ids decide.
        let last = live.iter().copied().find(|&i| {
            let reached = amount(i) >= missing;
            missing -= if reached { 0 } else { amount(i) };
            reached
        })?;
        Some(End {
            key: key(last),
            token: tokens[last as usize],
        })
    }

    /// The token that `noise` chooses among the candidates of at least `least` mass, laid out
    /// by ascending id.
    pub(super) fn draw(&self, least: u64, noise: u64) -> Option<u32> {
        let masses = || self.weights.iter().map(|&w| if w >= least { w } else { 0 });
        let mut point = point_in(masses().sum(), noise);
        for (&token, mass) in self.tokens.iter().zip(masses()) {
            if point < mass {
                return Some(token);
            }
            point -= mass;
        }
        None
    }
}

impl Goal {
    fn amount(self) -> u64 {
        match self {
            Goal::Count(count) => count as u64,
            Goal::Mass(mass) => mass,
        }
    }
}
