//! Texts that must obey a grammar: which tokens may come next, by `llguidance`.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use onward_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// What a generated text must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// A JSON object.
    JsonObject,
    /// A JSON value that fits the schema.
    JsonSchema(Value),
    /// A text that the regular expression matches as a whole.
    Regex(String),
    /// A text of the grammar, in the dialect of Lark that `llguidance` reads.
    Lark(String),
}

/// Compiles grammars for the vocabulary of a model.
pub(crate) struct Grammars {
    factory: ParserFactory,
    eos: Option<u32>,
}

/// The vocabulary, as `llguidance` wants it.
struct Vocabulary {
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.greedy_tokenize(bytes)
    }

    /// Texts that a grammar forces are drawn token by token, like all others.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl Grammars {
    /// Grammars over the ids below `vocab_size`; a text ends with one of `stop_ids`.
    ///
    /// # Errors
    /// A vocabulary that cannot be put into a trie.
    pub(crate) fn new(tokenizer: &Tokenizer, stop_ids: &[u32], vocab_size: usize) -> Result<Self> {
        let word = |id| {
            let mut bytes = tokenizer.token_bytes(id).unwrap_or_default();
            if tokenizer.is_special(id) {
                // No text of a grammar, though it may read like one.
                bytes.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
            bytes
        };
        let words: Vec<Vec<u8>> = (0..vocab_size as u32).map(word).collect();
        let eos = stop_ids.first().copied();
        let info = TokRxInfo::new(vocab_size as u32, eos.unwrap_or(u32::MAX));
        let trie = TokTrie::from(&info, &words).with_eos_tokens(stop_ids);
        let environment: TokEnv = Arc::new(Vocabulary { trie });
        let mut factory = ParserFactory::new_simple(&environment).map_err(refused)?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Self { factory, eos })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// [`Error::Request`] with what is wrong with it, or that it is too large.
    pub(crate) fn compile(&self, constraint: &Constraint) -> Result<Guide> {
        if self.eos.is_none() {
            let detail = "the model has no token that ends a text, which a grammar needs";
            return Err(Error::Request(detail.to_owned()));
        }
        let grammar = match constraint {
            Constraint::JsonObject => TopLevelGrammar::from_json_schema(json!({"type": "object"})),
            Constraint::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
            Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Constraint::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        };
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            None => Ok(Guide { matcher }),
            Some(error) => Err(refused(error)),
        }
    }
}

/// The grammar's error as one sentence.
fn refused(error: impl std::fmt::Display) -> Error {
    let text = error.to_string();
    let line = text.lines().find(|line| !line.trim().is_empty());
    Error::Request(format!(
        "the grammar is refused: {}",
        line.unwrap_or("it is empty").trim()
    ))
}

/// A grammar and how far a text has come in it.
pub(crate) struct Guide {
    matcher: Matcher,
}

impl Guide {
    /// Sets the bits of the tokens that may come next, of `mask` which has a bit for each token.
    ///
    /// # Errors
    /// A grammar that takes too long, or leaves no token.
    pub(crate) fn mask(&mut self, mask: &mut [u32]) -> Result<()> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(refused)?;
        mask.fill(0);
        let words = allowed.as_slice();
        let n = words.len().min(mask.len());
        mask[..n].copy_from_slice(&words[..n]);
        Ok(())
    }

    /// Goes on by a token that was allowed; true where the text can only end now.
    ///
    /// # Errors
    /// A token that was not.
    pub(crate) fn accept(&mut self, token: u32) -> Result<bool> {
        self.matcher.consume_token(token).map_err(refused)?;
        Ok(self.matcher.is_stopped())
    }
}
