//! A sequence and what the cache holds of it.

use crate::error::Result;
use crate::kv::{BlockTable, PagePool};

/// One conversation or text: the tokens whose keys and values are in the cache.
///
/// A prompt that begins like the session's text only costs what is new. Dropping the session
/// frees its pages.
#[derive(Debug)]
pub struct Session {
    table: BlockTable,
    cached: Vec<u32>,
}

impl Session {
    pub(crate) fn new(pool: &PagePool) -> Self {
        Self {
            table: BlockTable::new(pool),
            cached: Vec::new(),
        }
    }

    /// The tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.cached
    }

    /// Forgets all but the common beginning with `prompt`, at least its last token, whose
    /// logits are yet to be computed. Returns how many tokens stay.
    pub(crate) fn rewind_to(&mut self, prompt: &[u32]) -> usize {
        let common = self
            .cached
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count()
            .min(prompt.len().saturating_sub(1));
        self.cached.truncate(common);
        self.table.truncate(common);
        common
    }

    /// Makes room for `n` more tokens and returns the pages.
    pub(crate) fn reserve(&mut self, n: usize) -> Result<&[u32]> {
        self.table.grow(self.cached.len() + n)?;
        Ok(self.table.pages())
    }

    /// The pages it has.
    pub(crate) fn pages(&self) -> &[u32] {
        self.table.pages()
    }

    /// Records tokens that a forward pass has put into the reserved room.
    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        self.cached.extend_from_slice(tokens);
    }
}
