//! The two kinds of byte-pair encoding in GGUF files, as models of the `tokenizers` crate.
//!
//! - By score (SentencePiece): two symbols may merge when their concatenation is a token, and
//!   the token's score ranks the merge. There is no list of merges, and making one for a quarter
//!   of a million tokens would take longer than the rest of the start.
//!   Source: the BPE model of SentencePiece (Kudo and Richardson, 2018).
//! - By rank (GPT-2): a list names the pairs that may merge, best first.
//!   Source: Sennrich et al., 2016; Radford et al., 2019.
//!
//! A symbol that ends as no token is spelled in byte tokens, or else becomes the unknown token.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Token};

use crate::TokenizerError;
use crate::merging::{MAX_BYTES, MergeRule, merge};
use crate::text_set::TextSet;
use crate::token_table::{TokenTable, byte_value};
use crate::vocabulary::TokenType;

/// Ranks up to this are exact as scores in f32.
const MAX_MERGES: usize = 1 << 24;

/// What ranks the merges.
enum Ranking {
    Scores(Vec<f32>),
    /// Pairs `"left right"`, numbered by rank.
    Merges(TextSet),
}

/// Byte-pair encoding over a shared table of tokens.
pub(crate) struct PairModel {
    table: Arc<TokenTable>,
    ranking: Ranking,
    byte_ids: [Option<u32>; 256],
    unknown: Option<u32>,
    /// A text that is a token as a whole is taken as such, whatever the merges say.
    whole_tokens_first: bool,
}

impl PairModel {
    /// A model that merges by the scores of the tokens.
    pub(crate) fn by_score(
        table: Arc<TokenTable>,
        scores: Vec<f32>,
        unknown: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        if scores.len() != table.len() {
            let detail = format!("{} tokens but {} scores", table.len(), scores.len());
            return Err(TokenizerError::vocabulary(detail));
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            let detail = format!("the score of token {id} is not a number");
            return Err(TokenizerError::vocabulary(detail));
        }
        let byte_ids = byte_ids(&table)?;
        let ranking = Ranking::Scores(scores);
        Ok(Self {
            table,
            ranking,
            byte_ids,
            unknown,
            whole_tokens_first: false,
        })
    }

    /// A model that merges by the order of `merges`.
    pub(crate) fn by_rank(
        table: Arc<TokenTable>,
        merges: &[&str],
        unknown: Option<u32>,
        whole_tokens_first: bool,
    ) -> Result<Self, TokenizerError> {
        if merges.is_empty() || merges.len() > MAX_MERGES {
            return Err(TokenizerError::vocabulary(format!(
                "it has {} merges",
                merges.len()
            )));
        }
        if let Some(merge) = merges.iter().find(|merge| !merge.contains(' ')) {
            return Err(TokenizerError::vocabulary(format!(
                "the merge {merge:?} is not two tokens"
            )));
        }
        let ranking = Ranking::Merges(TextSet::new(merges)?);
        Ok(Self {
            table,
            ranking,
            byte_ids: [None; 256],
            unknown,
            whole_tokens_first,
        })
    }

    /// The token that ordinary text may become. Structure is never spelled out by ordinary text,
    /// so control tokens do not count.
    fn find_text_token(&self, text: &str) -> Option<u32> {
        let id = self.table.find(text)?;
        let token_type = self.table.token_type(id)?;
        matches!(token_type, TokenType::Normal | TokenType::UserDefined).then_some(id)
    }

    fn token(&self, id: u32, start: usize, len: usize) -> Token {
        let text = self.table.text(id).unwrap_or_default();
        Token::new(id, text.to_owned(), (start, start + len))
    }

    /// Appends the tokens for a symbol that is none itself: its bytes, or else the unknown token,
    /// once for neighbours.
    fn spell(
        &self,
        text: &str,
        start: usize,
        tokens: &mut Vec<Token>,
    ) -> Result<(), TokenizerError> {
        let bytes = text.bytes().map(|byte| self.byte_ids[usize::from(byte)]);
        if let Some(ids) = bytes.collect::<Option<Vec<u32>>>() {
            tokens.extend(
                ids.into_iter()
                    .enumerate()
                    .map(|(i, id)| self.token(id, start + i, 1)),
            );
            return Ok(());
        }
        let unknown = self.unknown.ok_or_else(|| TokenizerError::Encode {
            detail: format!("no token of the vocabulary covers {text:?}"),
        })?;
        match tokens.last_mut() {
            Some(last) if last.id == unknown => last.offsets.1 = start + text.len(),
            _ => tokens.push(self.token(unknown, start, text.len())),
        }
        Ok(())
    }
}

/// The token of each byte, where the vocabulary has them.
fn byte_ids(table: &TokenTable) -> Result<[Option<u32>; 256], TokenizerError> {
    let mut ids = [None; 256];
    for (id, token_type, text) in table.iter() {
        if token_type == TokenType::Byte {
            let byte = byte_value(text).ok_or_else(|| {
                TokenizerError::vocabulary(format!("byte token {id} is written {text:?}"))
            })?;
            ids[usize::from(byte)] = Some(id);
        }
    }
    Ok(ids)
}

impl MergeRule for PairModel {
    fn token_of(&self, symbol: &str) -> Option<u32> {
        self.find_text_token(symbol)
    }

    fn merge_of(&self, text: &str, middle: usize) -> Option<(f32, u32)> {
        match &self.ranking {
            Ranking::Scores(scores) => {
                let token = self.find_text_token(text)?;
                Some((*scores.get(token as usize)?, token))
            }
            Ranking::Merges(merges) => {
                let token = self.find_text_token(text)?;
                let (left, right) = text.split_at(middle);
                let rank = merges.find(&format!("{left} {right}"))?;
                Some((-(rank as f32), token))
            }
        }
    }
}

impl Model for PairModel {
    type Trainer = BpeTrainer;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        if sequence.len() > MAX_BYTES {
            return Err(TokenizerError::Encode {
                detail: "it is longer than 4 GiB".into(),
            }
            .into());
        }
        if self.whole_tokens_first
            && let Some(id) = self.find_text_token(sequence)
        {
            return Ok(vec![self.token(id, 0, sequence.len())]);
        }
        let segments = merge(sequence, self);
        let mut tokens = Vec::with_capacity(segments.len());
        for segment in segments {
            match segment.token {
                Some(id) => tokens.push(self.token(id, segment.start, segment.text.len())),
                None => self.spell(segment.text, segment.start, &mut tokens)?,
            }
        }
        Ok(tokens)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.table.find(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.table.text(id).map(str::to_owned)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.table
            .iter()
            .map(|(id, _, text)| (text.to_owned(), id))
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
