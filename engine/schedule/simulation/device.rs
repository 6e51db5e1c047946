//! A device that remembers, for each place of its cache, which text was written there.
//!
//! The keys and values of a position depend on the whole text up to it. So does the hash that
//! stands for them here: it is computed from the token and from what the place before holds, be
//! that right or wrong. A row checks all places that it attends to.

use std::collections::VecDeque;

use onward_kernels::PAGE_TOKENS;

use crate::schedule::PageCopy;

/// What stands for the text before the first token.
const EMPTY: u64 = 0x9e37_79b9_7f4a_7c15;
/// The token that ends a text.
pub(super) const STOP: u32 = 0;

/// The hash of a text that goes on with `token`.
pub(super) fn chain(text: u64, token: u32) -> u64 {
    let mixed = (text ^ u64::from(token)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) ^ mixed >> 32
}

/// The hashes of all beginnings of a text.
pub(super) fn hashes(tokens: &[u32]) -> Vec<u64> {
    let mut text = EMPTY;
    let next = |&token: &u32| {
        text = chain(text, token);
        text
    };
    tokens.iter().map(next).collect()
}

/// The token that the model draws behind a text: one of few, so that texts meet.
pub(super) fn draw(text: u64) -> u32 {
    match text % 32 {
        0 => STOP,
        _ => 1 + (text >> 8) as u32 % 3,
    }
}

/// A sequence as the device's decoder has it.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// Tokens that it may still draw.
    n_left: usize,
    /// Tokens that nobody has taken yet.
    drawn: VecDeque<u32>,
}

#[derive(Clone, Debug, Default)]
struct Row {
    slot: usize,
    token: u32,
    table: Vec<u32>,
    /// What the places of its text hold.
    expected: Vec<u64>,
}

/// What is put on the device's stream.
#[derive(Clone, Copy, Debug)]
enum Command {
    Step,
    Page { row: usize, page: u32 },
}

#[derive(Debug)]
pub(super) struct Device {
    pages: Vec<[u64; PAGE_TOKENS]>,
    slots: Vec<Slot>,
    rows: Vec<Row>,
    /// What the stream has not come to yet: only the steps can be kept from beginning.
    stream: VecDeque<Command>,
}

impl Device {
    pub(super) fn new(n_pages: usize, n_slots: usize) -> Self {
        Self {
            pages: vec![[0; PAGE_TOKENS]; n_pages],
            slots: vec![Slot::default(); n_slots],
            rows: Vec::new(),
            stream: VecDeque::new(),
        }
    }

    /// Copies pages, the last first: the order is not to matter.
    pub(super) fn copy(&mut self, copies: &[PageCopy]) {
        for copy in copies.iter().rev() {
            assert!(
                copies.iter().all(|other| other.from != copy.to),
                "a copy of a copy"
            );
            self.pages[copy.to as usize] = self.pages[copy.from as usize];
        }
    }

    /// Checks that the places before `at` hold the text whose hashes are `expected`.
    pub(super) fn check(&self, table: &[u32], expected: &[u64], at: usize) {
        for (page, expected) in table.iter().zip(expected[..at].chunks(PAGE_TOKENS)) {
            let held = &self.pages[*page as usize][..expected.len()];
            assert_eq!(held, expected, "page {page} does not hold the text");
        }
        assert!(table.len() * PAGE_TOKENS >= at, "a place has no page");
    }

    /// Runs tokens of a text whose table is given; the text's hash behind them.
    pub(super) fn run(&mut self, tokens: &[u32], first: usize, table: &[u32]) -> u64 {
        let mut text = match first.checked_sub(1) {
            Some(before) => self.pages[table[before / PAGE_TOKENS] as usize][before % PAGE_TOKENS],
            None => EMPTY,
        };
        for (position, &token) in (first..).zip(tokens) {
            text = chain(text, token);
            let page = table[position / PAGE_TOKENS];
            self.pages[page as usize][position % PAGE_TOKENS] = text;
        }
        text
    }

    pub(super) fn start(&mut self, slot: usize, n_left: usize) {
        assert!(
            self.stream.is_empty(),
            "a sequence starts while steps are under way"
        );
        let drawn = VecDeque::new();
        self.slots[slot] = Slot { n_left, drawn };
    }

    /// Draws for a slot behind a text.
    pub(super) fn draw(&mut self, slot: usize, text: u64) {
        let slot = &mut self.slots[slot];
        assert!(slot.n_left > 0, "a finished sequence draws");
        let token = draw(text);
        slot.n_left = if token == STOP { 0 } else { slot.n_left - 1 };
        slot.drawn.push_back(token);
    }

    /// Sets the rows: slot, text, pages.
    pub(super) fn set_rows<'a>(
        &mut self,
        rows: impl Iterator<Item = (usize, &'a [u32], &'a [u32])>,
    ) {
        assert!(
            self.stream.is_empty(),
            "rows change while steps are under way"
        );
        let row = |(slot, text, table): (usize, &[u32], &[u32])| Row {
            slot,
            token: text[text.len() - 1],
            table: table.to_vec(),
            expected: hashes(&text[..text.len() - 1]),
        };
        self.rows = rows.map(row).collect();
    }

    /// The slots of the rows.
    pub(super) fn row_slots(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|row| row.slot)
    }

    /// Appends pages to a row's table; those it has are not looked at.
    pub(super) fn grow(&mut self, row: usize, table: &[u32]) {
        let coming = self.stream.iter().filter(
            |command| matches!(command, Command::Page { row: coming, .. } if *coming == row),
        );
        let known = self.rows[row].table.len() + coming.count();
        for &page in table.iter().skip(known) {
            self.stream.push_back(Command::Page { row, page });
        }
    }

    pub(super) fn ask(&mut self, n: usize) {
        self.stream.extend(std::iter::repeat_n(Command::Step, n));
    }

    /// Takes the next token of a slot; none once nothing is under way.
    pub(super) fn take(&mut self, slot: usize) -> Option<u32> {
        while self.slots[slot].drawn.is_empty() {
            self.proceed()?;
        }
        self.slots[slot].drawn.pop_front()
    }

    /// Comes to the next command.
    pub(super) fn proceed(&mut self) -> Option<()> {
        match self.stream.pop_front()? {
            Command::Page { row, page } => self.rows[row].table.push(page),
            Command::Step => {
                for row in 0..self.rows.len() {
                    self.step(row);
                }
            }
        }
        Some(())
    }

    pub(super) fn halt(&mut self) {
        self.stream.clear();
    }

    fn step(&mut self, index: usize) {
        let slot = self.rows[index].slot;
        if self.slots[slot].n_left == 0 {
            return;
        }
        let mut row = std::mem::take(&mut self.rows[index]);
        let position = row.expected.len();
        self.check(&row.table, &row.expected, position);
        let text = self.run(&[row.token], position, &row.table);
        self.draw(slot, text);
        row.expected.push(text);
        row.token = draw(text);
        self.rows[index] = row;
    }

    /// The hashes that a page holds.
    pub(super) fn page(&self, page: u32) -> &[u64] {
        &self.pages[page as usize]
    }
}
