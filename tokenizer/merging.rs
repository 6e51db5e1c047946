//! Merging adjacent symbols, best pair first: the loop that every byte-pair encoding shares.
//!
//! The text starts as one symbol per character. Each pair of neighbours that may merge is a
//! candidate with a score; the best candidate merges, the leftmost on equal scores, and the new
//! symbol makes candidates with its neighbours. A heap of candidates and a linked list of
//! symbols take O(n log n) for n characters.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Marks the ends of the list of symbols; also the bound on the length of a text.
const NONE: u32 = u32::MAX;
/// Longest text that can be merged, in bytes.
pub(crate) const MAX_BYTES: usize = NONE as usize - 1;

/// What may merge into what.
pub(crate) trait MergeRule {
    /// The token of a single character.
    fn token_of(&self, symbol: &str) -> Option<u32>;

    /// The token that the two symbols `text[..middle]` and `text[middle..]` merge into, and the
    /// score of that merge, which is not NaN.
    fn merge_of(&self, text: &str, middle: usize) -> Option<(f32, u32)>;
}

/// A part of the text that has ended as one symbol.
pub(crate) struct Segment<'a> {
    pub(crate) start: usize,
    pub(crate) text: &'a str,
    pub(crate) token: Option<u32>,
}

/// Merges `text`, of at most [`MAX_BYTES`], until no pair may merge.
pub(crate) fn merge<'a>(text: &'a str, rule: &impl MergeRule) -> Vec<Segment<'a>> {
    let mut merging = Merging::new(text, rule);
    merging.run();
    let alive = merging.symbols.iter().filter(|symbol| symbol.len > 0);
    alive
        .map(|symbol| {
            let start = symbol.start as usize;
            let text = &text[start..start + symbol.len as usize];
            Segment {
                start,
                text,
                token: symbol.token,
            }
        })
        .collect()
}

/// A stretch of the text, linked to its neighbours; empty once merged into the left one.
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
    token: Option<u32>,
}

/// A possible merge of the symbol `left` with its right neighbour into `len` bytes of text.
struct Candidate {
    score: f32,
    left: u32,
    len: u32,
    token: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self
            .score
            .partial_cmp(&other.score)
            .unwrap_or(Ordering::Equal);
        by_score
            .then_with(|| other.left.cmp(&self.left))
            .then_with(|| other.len.cmp(&self.len))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

struct Merging<'a, R> {
    text: &'a str,
    rule: &'a R,
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
}

impl<'a, R: MergeRule> Merging<'a, R> {
    fn new(text: &'a str, rule: &'a R) -> Self {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let position = symbols.len() as u32;
            let end = start + c.len_utf8();
            symbols.push(Symbol {
                start: start as u32,
                len: c.len_utf8() as u32,
                prev: position.checked_sub(1).unwrap_or(NONE),
                next: if end == text.len() {
                    NONE
                } else {
                    position + 1
                },
                token: rule.token_of(&text[start..end]),
            });
        }
        let candidates = BinaryHeap::with_capacity(symbols.len());
        let mut merging = Self {
            text,
            rule,
            symbols,
            candidates,
        };
        for left in 0..merging.symbols.len() as u32 {
            merging.propose(left);
        }
        merging
    }

    /// Adds the merge of `left` with its right neighbour to the candidates, if there is one.
    fn propose(&mut self, left: u32) {
        let Some(symbol) = self.symbols.get(left as usize) else {
            return;
        };
        let Some(next) = self.symbols.get(symbol.next as usize) else {
            return;
        };
        let len = symbol.len + next.len;
        let start = symbol.start as usize;
        let both = &self.text[start..start + len as usize];
        if let Some((score, token)) = self.rule.merge_of(both, symbol.len as usize) {
            self.candidates.push(Candidate {
                score,
                left,
                len,
                token,
            });
        }
    }

    fn run(&mut self) {
        while let Some(Candidate {
            left, len, token, ..
        }) = self.candidates.pop()
        {
            let symbol = &self.symbols[left as usize];
            let (prev, right) = (symbol.prev, symbol.next);
            let Some(next) = self.symbols.get(right as usize) else {
                continue;
            };
            // A neighbour that has merged since is longer, or gone: the candidate is stale.
            // Boundaries only ever vanish, so equal ends mean the same middle.
            if symbol.len == 0 || symbol.len + next.len != len {
                continue;
            }
            let after = next.next;
            let merged = &mut self.symbols[left as usize];
            merged.len = len;
            merged.next = after;
            merged.token = Some(token);
            self.symbols[right as usize].len = 0;
            if let Some(after) = self.symbols.get_mut(after as usize) {
                after.prev = left;
            }
            self.propose(prev);
            self.propose(left);
        }
    }
}
