//! Pages that sequences share, and the index that finds them again.
//!
//! Every page is one of three things: free; held by one or more sequences; or cached, which is to
//! say that nobody holds it but its tokens are known. Known pages form a tree: a page's parent is
//! the page before it in the text, and [`Key`] is parent and tokens.
//!
//! Whoever holds an indexed page holds all its parents (a sequence that finds its page in the
//! index already goes over to the one that is there). So pages that nobody holds are whole
//! branches' ends, and each of them can be evicted, ends first, the least recently used before
//! others. What is free or cached is therefore there for whoever needs it.

use std::collections::{BTreeMap, BTreeSet};

use onward_kernels::PAGE_TOKENS;

use super::key::Key;

/// The pages of a cache and what is known of their content.
#[derive(Debug)]
pub(crate) struct Cache {
    pages: Vec<Page>,
    free: Vec<u32>,
    index: BTreeMap<Key, u32>,
    /// Pages that are cached and have no children, by when they were last used.
    evictable: BTreeSet<(u64, u32)>,
    n_cached: usize,
    next_id: u64,
    /// Counts uses.
    clock: u64,
    n_evicted: u64,
}

#[derive(Debug, Default)]
struct Page {
    /// Sequences that have it in their tables, and copies to be made of it.
    holders: u32,
    entry: Option<Entry>,
}

/// A page's place in the index.
#[derive(Debug)]
struct Entry {
    /// What its children's keys call it.
    id: u64,
    key: Key,
    parent: Option<u32>,
    n_children: usize,
    last_used: u64,
}

/// The pages of a sequence, the one of position 0 first.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    pages: Vec<u32>,
    /// How many of them are in the index; they are full.
    n_indexed: usize,
}

/// What the cache has of a text.
#[derive(Debug, Default)]
pub(crate) struct Match {
    /// Full pages.
    pub(crate) pages: Vec<u32>,
    /// A page that begins like the text behind them.
    pub(crate) tail: Option<Tail>,
}

/// A page whose first tokens are those wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) page: u32,
    /// How many.
    pub(crate) n: usize,
    /// Whether nothing is lost if the page goes to whoever wants it: it is neither full nor to be
    /// copied, so that nobody holds it, and all that is known of it is wanted.
    pub(crate) is_takeable: bool,
}

impl Holding {
    pub(crate) fn pages(&self) -> &[u32] {
        &self.pages
    }

    pub(crate) fn n_indexed(&self) -> usize {
        self.n_indexed
    }

    /// Pages that positions `0..n_tokens` need further.
    pub(crate) fn missing(&self, n_tokens: usize) -> usize {
        let needed = n_tokens.div_ceil(PAGE_TOKENS);
        needed.saturating_sub(self.pages.len())
    }

    /// The last page that is in the index.
    pub(crate) fn last_indexed(&self) -> Option<u32> {
        self.pages[..self.n_indexed].last().copied()
    }
}

impl Match {
    /// The tokens it spares.
    pub(crate) fn n_tokens(&self) -> usize {
        self.pages.len() * PAGE_TOKENS + self.tail.map_or(0, |tail| tail.n)
    }
}

impl Cache {
    /// So many free pages.
    pub(crate) fn new(n_pages: usize) -> Self {
        Self {
            pages: (0..n_pages).map(|_| Page::default()).collect(),
            free: (0..n_pages as u32).rev().collect(),
            index: BTreeMap::new(),
            evictable: BTreeSet::new(),
            n_cached: 0,
            next_id: Key::ROOT + 1,
            clock: 0,
            n_evicted: 0,
        }
    }

    /// Pages in all.
    pub(crate) fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// Pages that nobody holds and of which nothing is known.
    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Pages that nobody holds and of which something is known.
    pub(crate) fn n_cached(&self) -> usize {
        self.n_cached
    }

    /// Pages whose content was given up for another.
    pub(crate) fn n_evicted(&self) -> u64 {
        self.n_evicted
    }

    /// Pages that can be taken.
    pub(crate) fn available(&self) -> usize {
        self.n_free() + self.n_cached
    }

    /// Of the pages that `found` names, those that would no longer be available.
    pub(crate) fn n_cached_in(&self, found: &Match) -> usize {
        let tail = found.tail.map(|tail| tail.page);
        let pages = found.pages.iter().copied().chain(tail);
        pages
            .filter(|&page| self.pages[page as usize].holders == 0)
            .count()
    }

    /// What there is of the first `limit` of `tokens`.
    pub(crate) fn find(&self, tokens: &[u32], limit: usize) -> Match {
        let mut found = Match::default();
        let mut parent = Key::ROOT;
        let mut rest = &tokens[..limit];
        while let Some((page, behind)) = rest.split_at_checked(PAGE_TOKENS)
            && let Some(&page) = self.index.get(&Key::new(parent, page))
        {
            found.pages.push(page);
            parent = self.id(Some(page));
            rest = behind;
        }
        let wanted = Key::new(parent, &rest[..rest.len().min(PAGE_TOKENS)]);
        found.tail = self.likest(&wanted);
        found
    }

    /// The page behind the same text that begins most like `wanted`.
    fn likest(&self, wanted: &Key) -> Option<Tail> {
        let before = self.index.range(..=wanted).next_back();
        let after = self.index.range(wanted..).next();
        let (key, &page) = [before, after]
            .into_iter()
            .flatten()
            .max_by_key(|(key, _)| key.common(wanted))?;
        let n = key.common(wanted);
        (n > 0).then(|| Tail {
            page,
            n,
            is_takeable: n == key.tokens().len()
                && n < PAGE_TOKENS
                && self.pages[page as usize].holders == 0,
        })
    }

    /// Begins a sequence with the full pages of `found`.
    pub(crate) fn hold_all(&mut self, found: &Match) -> Holding {
        for &page in &found.pages {
            self.hold(page);
        }
        Holding {
            pages: found.pages.clone(),
            n_indexed: found.pages.len(),
        }
    }

    /// Gives the sequence a page of which something is known and that nobody holds: it is its own
    /// from now on.
    pub(crate) fn take_over(&mut self, holding: &mut Holding, page: u32) {
        self.hold(page);
        self.forget(page);
        holding.pages.push(page);
    }

    /// Makes room for positions `0..n_tokens`; false, and nothing is changed, where there are too
    /// few pages.
    pub(crate) fn grow(&mut self, holding: &mut Holding, n_tokens: usize) -> bool {
        let missing = holding.missing(n_tokens);
        if missing > self.available() {
            return false;
        }
        for _ in 0..missing {
            let Some(page) = self.free.pop().or_else(|| self.evict()) else {
                return false;
            };
            self.hold(page);
            holding.pages.push(page);
        }
        true
    }

    /// Lets the index know the full pages of a sequence whose `tokens` are in the cache. Where
    /// another page is there already, the sequence goes over to it, if `may_swap`, or is left as
    /// it is from there on.
    pub(crate) fn index(&mut self, holding: &mut Holding, tokens: &[u32], may_swap: bool) {
        let full = tokens.chunks_exact(PAGE_TOKENS);
        for tokens in full.skip(holding.n_indexed) {
            let parent = holding.last_indexed();
            let own = holding.pages[holding.n_indexed];
            let key = Key::new(self.id(parent), tokens);
            match self.index.get(&key) {
                Some(_) if !may_swap => return,
                Some(&known) => self.swap(holding, known),
                None => self.remember(own, parent, key),
            }
            holding.n_indexed += 1;
        }
    }

    /// Goes over to pages that others have filled meanwhile, as far as the first `limit` of
    /// `tokens` go; of the sequence, `done` tokens are in the cache. How many are then.
    pub(crate) fn adopt(
        &mut self,
        holding: &mut Holding,
        tokens: &[u32],
        done: usize,
        limit: usize,
    ) -> usize {
        let full = tokens[..limit].chunks_exact(PAGE_TOKENS);
        for tokens in full.skip(holding.n_indexed) {
            let parent = self.id(holding.last_indexed());
            let Some(&known) = self.index.get(&Key::new(parent, tokens)) else {
                break;
            };
            self.swap(holding, known);
            holding.n_indexed += 1;
        }
        done.max(holding.n_indexed * PAGE_TOKENS)
    }

    /// Ends a sequence whose `tokens` are in the cache, which keeps what is known of its pages.
    pub(crate) fn release(&mut self, mut holding: Holding, tokens: &[u32]) {
        self.index(&mut holding, tokens, true);
        let tail = &tokens[holding.n_indexed * PAGE_TOKENS..];
        if !tail.is_empty() {
            let parent = holding.last_indexed();
            let key = Key::new(self.id(parent), tail);
            let known = self.likest(&key).map_or(0, |known| known.n);
            if known < tail.len() {
                self.remember(holding.pages[holding.n_indexed], parent, key);
            }
        }
        self.clock += 1;
        for page in holding.pages.into_iter().rev() {
            self.let_go(page);
        }
    }

    /// Keeps a page as it is until it is [let go](Self::let_go).
    pub(crate) fn hold(&mut self, page: u32) {
        let Page { holders, entry } = &mut self.pages[page as usize];
        if let (0, Some(entry)) = (*holders, entry) {
            self.n_cached -= 1;
            self.evictable.remove(&(entry.last_used, page));
        }
        *holders += 1;
    }

    /// Ends a [`hold`](Self::hold).
    pub(crate) fn let_go(&mut self, page: u32) {
        let Page { holders, entry } = &mut self.pages[page as usize];
        *holders -= 1;
        match (*holders, entry) {
            (0, Some(entry)) => {
                entry.last_used = self.clock;
                self.n_cached += 1;
                if entry.n_children == 0 {
                    self.evictable.insert((entry.last_used, page));
                }
            }
            (0, None) => self.free.push(page),
            _ => {}
        }
    }

    /// The next page of `holding` gives way to the one in the index with the same content.
    fn swap(&mut self, holding: &mut Holding, known: u32) {
        self.hold(known);
        let own = std::mem::replace(&mut holding.pages[holding.n_indexed], known);
        self.let_go(own);
    }

    /// Frees the page that was not used for the longest time.
    fn evict(&mut self) -> Option<u32> {
        let &(_, page) = self.evictable.first()?;
        self.n_evicted += 1;
        self.hold(page);
        self.forget(page);
        self.let_go(page);
        self.free.pop()
    }

    /// What the keys behind this page call it.
    fn id(&self, page: Option<u32>) -> u64 {
        let entry = page.and_then(|page| self.pages[page as usize].entry.as_ref());
        entry.map_or(Key::ROOT, |entry| entry.id)
    }

    /// Puts a page that is held, as is `parent`, into the index.
    fn remember(&mut self, page: u32, parent: Option<u32>, key: Key) {
        let before = self.index.range(..&key).next_back();
        let shorter =
            before.map(|(before, &page)| (before.common(&key), before.tokens().len(), page));
        self.index.insert(key, page);
        if let Some(parent) = parent.and_then(|page| self.pages[page as usize].entry.as_mut()) {
            parent.n_children += 1;
        }
        self.pages[page as usize].entry = Some(Entry {
            id: self.next_id,
            key,
            parent,
            n_children: 0,
            last_used: self.clock,
        });
        self.next_id += 1;
        // What the page before has is all in this one.
        if let Some((common, n, shorter)) = shorter
            && common == n
            && self.pages[shorter as usize].holders == 0
        {
            self.hold(shorter);
            self.forget(shorter);
            self.let_go(shorter);
        }
    }

    /// Takes a page that is held and has no children out of the index.
    fn forget(&mut self, page: u32) {
        let Some(entry) = self.pages[page as usize].entry.take() else {
            return;
        };
        self.index.remove(&entry.key);
        let Some(parent) = entry.parent else { return };
        let Page {
            holders,
            entry: Some(of_parent),
        } = &mut self.pages[parent as usize]
        else {
            return;
        };
        of_parent.n_children -= 1;
        if of_parent.n_children == 0 && *holders == 0 {
            self.evictable.insert((of_parent.last_used, parent));
        }
    }
}

#[cfg(test)]
impl Cache {
    /// The pages that the index knows, each with the text up to the last of its tokens that is
    /// known.
    pub(crate) fn known(&self) -> Vec<(u32, Vec<u32>)> {
        let text = |page: u32| {
            let mut pages = vec![page];
            while let Some(Entry {
                parent: Some(parent),
                ..
            }) = pages
                .last()
                .and_then(|&page| self.pages[page as usize].entry.as_ref())
            {
                pages.push(*parent);
            }
            let entries = pages.iter().rev();
            let entries = entries.filter_map(|&page| self.pages[page as usize].entry.as_ref());
            entries
                .flat_map(|entry| entry.key.tokens())
                .copied()
                .collect()
        };
        self.index
            .values()
            .map(|&page| (page, text(page)))
            .collect()
    }

    /// Every page is free, held as often as the sequences and copies say, or cached, and can be
    /// evicted in the end.
    pub(crate) fn audit<'a>(&self, held: impl Iterator<Item = &'a u32>) {
        let mut holders = vec![0; self.pages.len()];
        held.for_each(|&page| holders[page as usize] += 1);
        let (mut n_free, mut n_cached) = (0, 0);
        for (number, page) in self.pages.iter().enumerate() {
            assert_eq!(page.holders, holders[number], "holders of page {number}");
            let Some(entry) = &page.entry else {
                n_free += usize::from(page.holders == 0);
                continue;
            };
            assert_eq!(self.index.get(&entry.key), Some(&(number as u32)));
            n_cached += usize::from(page.holders == 0);
            let is_end = page.holders == 0 && entry.n_children == 0;
            let evictable = self.evictable.contains(&(entry.last_used, number as u32));
            assert_eq!(evictable, is_end, "whether page {number} can be evicted");
            if let Some(parent) = entry.parent {
                let parent = &self.pages[parent as usize];
                assert!(
                    parent
                        .entry
                        .as_ref()
                        .is_some_and(|parent| parent.id == entry.key.parent)
                );
                assert!(
                    parent.holders > 0 || page.holders == 0,
                    "a child alone is held"
                );
            }
        }
        assert_eq!((self.free.len(), self.n_cached), (n_free, n_cached));
    }
}
