//! Many texts, numbered, in one block of memory, with an index to find them by.
//!
//! Vocabularies have hundreds of thousands of texts, and a start of the program waits for them:
//! one allocation for all texts and one for the index take a tenth of the time of a map of
//! strings. The index is keyed at random, so that no file can be made to collide.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::TokenizerError;

/// Numbered texts that can be found by their content.
pub(crate) struct TextSet {
    texts: String,
    /// Where each text ends in `texts`; it begins where the one before ends.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
    longest: usize,
}

impl TextSet {
    /// Takes the texts in order. Where two are equal, the later number is found.
    ///
    /// # Errors
    /// More than 4 GiB of text, or more texts than 32 bits count.
    pub(crate) fn new(texts: &[&str]) -> Result<Self, TokenizerError> {
        let n_bytes: usize = texts.iter().map(|text| text.len()).sum();
        if u32::try_from(n_bytes).is_err() || u32::try_from(texts.len()).is_err() {
            return Err(TokenizerError::vocabulary("it is larger than 4 GiB"));
        }
        let mut set = Self {
            texts: String::with_capacity(n_bytes),
            ends: Vec::with_capacity(texts.len()),
            index: HashTable::with_capacity(texts.len()),
            hasher: RandomState::new(),
            longest: 0,
        };
        for text in texts {
            set.push(text);
        }
        Ok(set)
    }

    fn push(&mut self, text: &str) {
        let number = self.ends.len() as u32;
        self.texts.push_str(text);
        self.ends.push(self.texts.len() as u32);
        self.longest = self.longest.max(text.len());
        let (texts, ends, hasher) = (&self.texts, &self.ends, &self.hasher);
        let text_of = |number: u32| text_at(texts, ends, number).unwrap_or_default();
        self.index
            .entry(
                hasher.hash_one(text),
                |&other| text_of(other) == text,
                |&other| hasher.hash_one(text_of(other)),
            )
            .insert(number);
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&str> {
        text_at(&self.texts, &self.ends, number)
    }

    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        let hash = self.hasher.hash_one(text);
        self.index
            .find(hash, |&number| self.get(number) == Some(text))
            .copied()
    }
}

fn text_at<'a>(texts: &'a str, ends: &[u32], number: u32) -> Option<&'a str> {
    let number = number as usize;
    let end = *ends.get(number)? as usize;
    let start = if number == 0 {
        0
    } else {
        ends[number - 1] as usize
    };
    Some(&texts[start..end])
}

#[cfg(test)]
mod tests {
    use super::TextSet;

    #[test]
    fn finds_what_it_holds_and_the_later_of_two() {
        let set =
            TextSet::new(&["a", "", "bc", "a", "ü"]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((set.len(), set.get(2), set.get(5)), (5, Some("bc"), None));
        assert_eq!(
            (set.find("a"), set.find(""), set.find("ü")),
            (Some(3), Some(1), Some(4))
        );
        assert_eq!((set.find("b"), set.find("abcde")), (None, None));
    }
}
