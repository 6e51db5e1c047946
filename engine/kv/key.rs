//! What the prefix index finds a page by.

use std::cmp::Ordering;

use onward_kernels::PAGE_TOKENS;

/// The tokens of a page, at most [`PAGE_TOKENS`], and the page before it.
///
/// The parent's number is never given twice, so it stands for everything before the page: unlike
/// a hash, it cannot be that of another text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) parent: u64,
    n: u8,
    tokens: [u32; PAGE_TOKENS],
}

impl Key {
    /// The parent of first pages.
    pub(super) const ROOT: u64 = 0;

    pub(super) fn new(parent: u64, tokens: &[u32]) -> Self {
        let mut key = Self {
            parent,
            n: tokens.len() as u8,
            tokens: [0; PAGE_TOKENS],
        };
        key.tokens[..tokens.len()].copy_from_slice(tokens);
        key
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens[..usize::from(self.n)]
    }

    /// How many tokens two pages begin with alike; none behind different texts.
    pub(super) fn common(&self, other: &Self) -> usize {
        match self.parent == other.parent {
            true => common(self.tokens(), other.tokens()),
            false => 0,
        }
    }
}

/// How many tokens two texts begin with alike.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// As in a dictionary: of all pages behind a text, the neighbours of a key are those that begin
/// most like it.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.parent.cmp(&other.parent)).then_with(|| self.tokens().cmp(other.tokens()))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
