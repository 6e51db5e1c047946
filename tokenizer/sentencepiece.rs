//! SentencePiece-style byte-pair encoding, as a model of the `tokenizers` crate.
//!
//! There is no list of merges: two adjacent symbols may merge when their concatenation is a
//! token, the pair with the best score merges first, and on equal scores the leftmost one. A
//! symbol that ends as no token is spelled in byte tokens.
//! Source: the BPE model of SentencePiece (Kudo and Richardson, 2018).

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashTable;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Token};

use crate::TokenizerError;
use crate::token_table::{TokenTable, byte_value};
use crate::vocabulary::TokenType;

/// Marks the end of the list of symbols.
const NONE: u32 = u32::MAX;

/// The model: scores and an index over a shared table of texts.
pub(crate) struct SentencePieceBpe {
    table: Arc<TokenTable>,
    scores: Vec<f32>,
    index: HashTable<u32>,
    hasher: RandomState,
    byte_ids: [Option<u32>; 256],
    unknown: Option<u32>,
    longest_token: usize,
}

impl SentencePieceBpe {
    pub(crate) fn new(
        table: Arc<TokenTable>,
        scores: Vec<f32>,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        if scores.len() != table.len() {
            let detail = format!("{} tokens but {} scores", table.len(), scores.len());
            return Err(TokenizerError::vocabulary(detail));
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(TokenizerError::vocabulary(format!(
                "the score of token {id} is not a number"
            )));
        }
        let mut model = Self {
            index: HashTable::with_capacity(table.len()),
            table,
            scores,
            hasher: RandomState::new(),
            byte_ids: [None; 256],
            unknown,
            longest_token: 0,
        };
        model.build_index()?;
        Ok(model)
    }

    /// Where two tokens share a text, the later one is meant.
    fn build_index(&mut self) -> Result<(), TokenizerError> {
        let hash_of = |text: &str| self.hasher.hash_one(text);
        for (id, text) in self.table.iter() {
            if self.table.token_type(id) == Some(TokenType::Byte) {
                let byte = byte_value(text).ok_or_else(|| {
                    TokenizerError::vocabulary(format!("byte token {id} is written {text:?}"))
                })?;
                self.byte_ids[usize::from(byte)] = Some(id);
            }
            self.longest_token = self.longest_token.max(text.len());
            let text_of = |id: u32| self.table.text(id).unwrap_or_default();
            self.index
                .entry(
                    hash_of(text),
                    |&other| text_of(other) == text,
                    |&other| hash_of(text_of(other)),
                )
                .insert(id);
        }
        Ok(())
    }

    fn find(&self, text: &str) -> Option<u32> {
        self.index
            .find(self.hasher.hash_one(text), |&id| {
                self.table.text(id) == Some(text)
            })
            .copied()
    }

    /// The token that merging may produce for this text. Structure is never spelled out by
    /// ordinary text, so control tokens do not count.
    fn find_mergeable(&self, text: &str) -> Option<u32> {
        if text.len() > self.longest_token {
            return None;
        }
        let id = self.find(text)?;
        let is_text = matches!(
            self.table.token_type(id),
            Some(TokenType::Normal | TokenType::UserDefined)
        );
        is_text.then_some(id)
    }

    /// Appends the tokens for a symbol that is none itself: its bytes, or else the unknown token,
    /// once for neighbours.
    fn spell(
        &self,
        text: &str,
        start: usize,
        tokens: &mut Vec<Token>,
    ) -> Result<(), TokenizerError> {
        let bytes: Option<Vec<u32>> = text
            .bytes()
            .map(|byte| self.byte_ids[usize::from(byte)])
            .collect();
        if let Some(ids) = bytes {
            for (i, id) in ids.into_iter().enumerate() {
                let value = self.table.text(id).unwrap_or_default().to_owned();
                tokens.push(Token::new(id, value, (start + i, start + i + 1)));
            }
            return Ok(());
        }
        let unknown = self.unknown.ok_or_else(|| TokenizerError::Encode {
            detail: format!("no token and no byte tokens cover {text:?}"),
        })?;
        let end = start + text.len();
        match tokens.last_mut() {
            Some(last) if last.id == unknown => last.offsets.1 = end,
            _ => {
                let value = self.table.text(unknown).unwrap_or_default().to_owned();
                tokens.push(Token::new(unknown, value, (start, end)));
            }
        }
        Ok(())
    }
}

/// A stretch of the text, linked to its neighbours; empty once merged into the left one.
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
    token: Option<u32>,
}

/// A possible merge of `left` with its right neighbour into `len` bytes of text.
struct Candidate {
    score: f32,
    left: u32,
    len: u32,
    token: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // No score is NaN: the constructor refuses them.
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

/// The state of merging one text: symbols as a linked list and the open candidates.
struct Merging<'a> {
    model: &'a SentencePieceBpe,
    text: &'a str,
    symbols: Vec<Symbol>,
    candidates: BinaryHeap<Candidate>,
}

impl<'a> Merging<'a> {
    fn new(model: &'a SentencePieceBpe, text: &'a str) -> Self {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let i = symbols.len() as u32;
            let end = start + c.len_utf8();
            symbols.push(Symbol {
                start: start as u32,
                len: c.len_utf8() as u32,
                prev: i.wrapping_sub(1),
                next: if end == text.len() { NONE } else { i + 1 },
                token: model.find_mergeable(&text[start..end]),
            });
        }
        let mut merging = Self {
            model,
            text,
            symbols,
            candidates: BinaryHeap::new(),
        };
        for left in 0..merging.symbols.len() as u32 {
            merging.propose(left);
        }
        merging
    }

    /// Adds the merge of `left` with its right neighbour to the candidates, if it makes a token.
    fn propose(&mut self, left: u32) {
        let Some(symbol) = self.symbols.get(left as usize) else {
            return;
        };
        let Some(next) = self.symbols.get(symbol.next as usize) else {
            return;
        };
        let len = symbol.len + next.len;
        let start = symbol.start as usize;
        if let Some(token) = self
            .model
            .find_mergeable(&self.text[start..start + len as usize])
        {
            let score = self.model.scores[token as usize];
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

impl Model for SentencePieceBpe {
    type Trainer = BpeTrainer;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        if sequence.len() >= NONE as usize {
            return Err(TokenizerError::Encode {
                detail: "it is longer than 4 GiB".into(),
            }
            .into());
        }
        let mut merging = Merging::new(self, sequence);
        merging.run();
        let mut tokens = Vec::new();
        for symbol in merging.symbols.iter().filter(|symbol| symbol.len > 0) {
            let (start, end) = (symbol.start as usize, (symbol.start + symbol.len) as usize);
            let text = &sequence[start..end];
            match symbol.token {
                Some(id) => tokens.push(Token::new(id, text.to_owned(), (start, end))),
                None => self.spell(text, start, &mut tokens)?,
            }
        }
        Ok(tokens)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.find(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.table.text(id).map(str::to_owned)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.table
            .iter()
            .map(|(id, text)| (text.to_owned(), id))
            .collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.table.len()
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a vocabulary read from a model file is not written back".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
