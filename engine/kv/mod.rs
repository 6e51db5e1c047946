//! Pages of the KV cache: which are free, and which belong to a sequence.
//!
//! Pure bookkeeping: a page is a number. The keys and values themselves live in the backend's
//! cache ([`onward_kernels::Backend::KvCache`]); page `p` is the same slot in every layer.

mod cache;
mod key;
#[cfg(test)]
mod tests;

pub(crate) use cache::{Cache, Holding, Match, Tail};
pub(crate) use key::common;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onward_kernels::PAGE_TOKENS;

use crate::error::{Error, Result};

/// The pages of one cache. Clones share them.
#[derive(Clone, Debug)]
pub struct PagePool {
    free: Arc<Mutex<Vec<u32>>>,
    n_pages: usize,
}

impl PagePool {
    /// A pool of `n_pages` free pages.
    pub fn new(n_pages: usize) -> Self {
        let free = (0..n_pages as u32).rev().collect();
        Self {
            free: Arc::new(Mutex::new(free)),
            n_pages,
        }
    }

    /// Pages that no sequence holds.
    pub fn n_free(&self) -> usize {
        self.lock().len()
    }

    /// Pages in all.
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Empties the pool.
    fn take_all(&self) -> Vec<u32> {
        std::mem::take(&mut *self.lock())
    }

    fn give_back(&self, pages: Vec<u32>) {
        self.lock().extend(pages);
    }

    // A panic elsewhere cannot leave the list half-changed, so poison is no obstacle.
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages of one sequence, in position order; they return to their pool on drop.
#[derive(Debug)]
pub struct BlockTable {
    pool: PagePool,
    pages: Vec<u32>,
}

impl BlockTable {
    /// An empty table that takes its pages from `pool`.
    pub fn new(pool: &PagePool) -> Self {
        Self {
            pool: pool.clone(),
            pages: Vec::new(),
        }
    }

    /// Makes room for positions `0..n_tokens`; keeps what is there.
    ///
    /// # Errors
    /// [`Error::OutOfPages`] if the pool runs dry; the table is then unchanged.
    pub fn grow(&mut self, n_tokens: usize) -> Result<()> {
        let missing = n_tokens
            .div_ceil(PAGE_TOKENS)
            .saturating_sub(self.pages.len());
        let mut free = self.pool.lock();
        let Some(rest) = free.len().checked_sub(missing) else {
            return Err(Error::OutOfPages {
                n_pages: self.pool.n_pages,
            });
        };
        self.pages.extend(free.drain(rest..).rev());
        Ok(())
    }

    /// Gives back the pages that positions `0..n_tokens` do not need.
    pub fn truncate(&mut self, n_tokens: usize) {
        let keep = n_tokens.div_ceil(PAGE_TOKENS).min(self.pages.len());
        self.pool.lock().extend(self.pages.drain(keep..).rev());
    }

    /// The pages, the one of position 0 first.
    pub fn pages(&self) -> &[u32] {
        &self.pages
    }
}

impl Drop for BlockTable {
    fn drop(&mut self) {
        self.truncate(0);
    }
}
