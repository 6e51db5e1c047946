//! The tokenizer: one encoder from the `tokenizers` crate, one table of bytes to decode with.

use std::sync::Arc;

use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{
    AddedToken, Decoder, DecoderWrapper, Model, Normalizer, NormalizerWrapper, PostProcessor,
    PostProcessorWrapper, PreTokenizer, PreTokenizerWrapper, TokenizerImpl,
};

use crate::model::PairModel;
use crate::pre_tokenizer;
use crate::space_runs;
use crate::stream::DecodeStream;
use crate::token_table::{Spelling, TokenTable};
use crate::vocabulary::{Vocabulary, VocabularyKind};
use crate::{TokenType, TokenizerError};

/// Turns text into token ids and back. Shared freely between threads.
pub struct Tokenizer {
    encoder: Box<dyn Encoder>,
    table: Arc<TokenTable>,
    special: SpecialTokens,
}

/// The ids with a role, and what the model file wants done with them.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) stop: Vec<u32>,
    pub(crate) add_bos: bool,
    pub(crate) add_eos: bool,
    /// Encoding puts a space before the text and after special tokens; decoding takes it away.
    pub(crate) add_space_prefix: bool,
}

/// A tokenizer of the `tokenizers` crate with its model's type hidden.
pub(crate) trait Encoder: Send + Sync {
    fn encode(&self, text: &str) -> tokenizers::Result<Vec<u32>>;
}

impl<M, N, PT, PP, D> Encoder for TokenizerImpl<M, N, PT, PP, D>
where
    M: Model + Send + Sync,
    N: Normalizer + Send + Sync,
    PT: PreTokenizer + Send + Sync,
    PP: PostProcessor + Send + Sync,
    D: Decoder + Send + Sync,
{
    fn encode(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        Ok(self.encode_fast(text, false)?.get_ids().to_vec())
    }
}

/// Parts from the crate around a model of ours.
type Pipeline = TokenizerImpl<
    PairModel,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

impl Tokenizer {
    /// Builds the tokenizer that a model file describes.
    ///
    /// # Errors
    /// A pre-tokenizer that is not known, or parts that contradict each other: lengths that
    /// differ, ids beyond the vocabulary, merges of unknown tokens, scores that are no numbers.
    pub fn from_vocabulary(vocabulary: &Vocabulary<'_>) -> Result<Self, TokenizerError> {
        let spelling = match vocabulary.kind {
            VocabularyKind::SentencePiece { .. } => Spelling::SentencePiece,
            VocabularyKind::ByteLevelBpe { .. } => Spelling::ByteLevel,
        };
        let vocabulary = &match spelling {
            Spelling::SentencePiece => space_runs::as_merges(vocabulary),
            Spelling::ByteLevel => vocabulary.clone(),
        };
        let table = Arc::new(TokenTable::new(
            &vocabulary.tokens,
            vocabulary.types.clone(),
            spelling,
        )?);
        vocabulary
            .unknown
            .map_or(Ok(()), |id| check_id(id, &table))?;
        let special = SpecialTokens {
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            stop: vocabulary.stop.clone(),
            add_bos: vocabulary.add_bos,
            add_eos: vocabulary.add_eos,
            add_space_prefix: matches!(
                vocabulary.kind,
                VocabularyKind::SentencePiece {
                    add_space_prefix: true
                }
            ),
        };
        let encoder: Box<dyn Encoder> =
            match &vocabulary.kind {
                VocabularyKind::SentencePiece { add_space_prefix } => Box::new(
                    sentencepiece_pipeline(vocabulary, &table, *add_space_prefix)?,
                ),
                VocabularyKind::ByteLevelBpe { pre } => {
                    Box::new(byte_level_pipeline(vocabulary, &table, pre)?)
                }
            };
        Self::new(encoder, table, special)
    }

    pub(crate) fn new(
        encoder: Box<dyn Encoder>,
        table: Arc<TokenTable>,
        special: SpecialTokens,
    ) -> Result<Self, TokenizerError> {
        let roles = special.bos.iter().chain(&special.eos).chain(&special.stop);
        roles.copied().try_for_each(|id| check_id(id, &table))?;
        Ok(Self {
            encoder,
            table,
            special,
        })
    }

    /// Token ids of `text`. The text of a special token is read as that token. With `add_bos`
    /// the ids begin with one BOS, also if the text itself begins with it.
    ///
    /// # Errors
    /// The vocabulary cannot express the text, or `add_bos` is asked of one without BOS.
    pub fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.encoder.encode(text).map_err(|error| {
            match error.downcast::<TokenizerError>() {
                Ok(error) => *error,
                Err(error) => TokenizerError::Encode {
                    detail: error.to_string(),
                },
            }
        })?;
        if add_bos {
            let bos = self.special.bos.ok_or(TokenizerError::NoBos)?;
            if ids.first() != Some(&bos) {
                ids.insert(0, bos);
            }
        }
        Ok(ids)
    }

    /// The bytes that `ids` stand for; special tokens give their text.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let mut after_special = true;
        for &id in ids {
            bytes.extend(self.piece(id, &mut after_special)?);
        }
        Ok(bytes)
    }

    /// The text that `ids` stand for; special tokens give their text, and bytes that form no
    /// character become U+FFFD.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let bytes = self.decode_bytes(ids)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A decoder that takes ids one by one and returns the text they complete, as if nothing
    /// came before the first one.
    pub fn stream(&self) -> DecodeStream<'_> {
        DecodeStream::new(self, true)
    }

    /// A decoder for ids that continue `context`, usually a prompt: the space before a first
    /// word is text there, not the prefix that encoding adds.
    pub fn stream_after(&self, context: &[u32]) -> DecodeStream<'_> {
        let after_special = context.last().is_none_or(|&id| self.is_added(id));
        DecodeStream::new(self, after_special)
    }

    /// The bytes of one token in its place: without the prefix space that encoding put there.
    pub(crate) fn piece(
        &self,
        id: u32,
        after_special: &mut bool,
    ) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = self.token_bytes(id).ok_or(TokenizerError::UnknownId {
            id,
            vocab_size: self.vocab_size(),
        })?;
        let is_added = self.is_added(id);
        if self.special.add_space_prefix
            && *after_special
            && !is_added
            && bytes.first() == Some(&b' ')
        {
            bytes.remove(0);
        }
        *after_special = is_added;
        Ok(bytes)
    }

    fn is_added(&self, id: u32) -> bool {
        self.table.token_type(id).is_some_and(TokenType::is_added)
    }

    /// The text of one token by itself, for display; `None` beyond the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.token_bytes(id)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of one token by itself, not always whole characters; `None` beyond the
    /// vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.table.bytes(id)
    }

    /// The id of the token whose text in the vocabulary is `text`.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        self.table.find(text)
    }

    /// Number of ids.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// Whether the model file wants prompts to begin with BOS.
    pub fn adds_bos(&self) -> bool {
        self.special.add_bos && self.special.bos.is_some()
    }

    /// Whether the model file wants prompts to end with EOS.
    pub fn adds_eos(&self) -> bool {
        self.special.add_eos && self.special.eos.is_some()
    }

    /// Ids that end a generation.
    pub fn stop_ids(&self) -> &[u32] {
        &self.special.stop
    }

    /// Whether the token is structure rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.table.token_type(id).is_some_and(TokenType::is_special)
    }
}

fn check_id(id: u32, table: &TokenTable) -> Result<(), TokenizerError> {
    let vocab_size = table.len();
    if id as usize >= vocab_size {
        return Err(TokenizerError::UnknownId { id, vocab_size });
    }
    Ok(())
}

/// `▁` for spaces, then merging by score.
fn sentencepiece_pipeline(
    vocabulary: &Vocabulary<'_>,
    table: &Arc<TokenTable>,
    add_space_prefix: bool,
) -> Result<Pipeline, TokenizerError> {
    let scores = vocabulary.scores.clone();
    let model = PairModel::by_score(Arc::clone(table), scores, vocabulary.unknown)?;
    let spaces =
        Replace::new(" ", "▁").map_err(|error| TokenizerError::vocabulary(error.to_string()))?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if add_space_prefix {
        steps.push(Prepend::new("▁".into()).into());
    }
    steps.push(spaces.into());
    let mut pipeline = Pipeline::new(model);
    pipeline.with_normalizer(Some(Sequence::new(steps)));
    pipeline.add_tokens(&added_tokens(table));
    Ok(pipeline)
}

/// The splits that `pre` names, then merging by rank.
fn byte_level_pipeline(
    vocabulary: &Vocabulary<'_>,
    table: &Arc<TokenTable>,
    pre: &str,
) -> Result<Pipeline, TokenizerError> {
    let rules = pre_tokenizer::find(pre).ok_or_else(|| TokenizerError::UnknownPreTokenizer {
        name: pre.to_owned(),
    })?;
    let (table, merges) = (Arc::clone(table), &vocabulary.merges);
    let added = added_tokens(&table);
    let model = PairModel::by_rank(table, merges, vocabulary.unknown, rules.ignore_merges)?;
    let mut pipeline = Pipeline::new(model);
    pipeline.with_pre_tokenizer(Some(rules.pre_tokenizer()?));
    pipeline.add_tokens(&added);
    Ok(pipeline)
}

/// The tokens whose text is found in the input before anything is merged.
fn added_tokens(table: &TokenTable) -> Vec<AddedToken> {
    table
        .iter()
        .filter(|(_, token_type, text)| token_type.is_added() && !text.is_empty())
        .map(|(_, token_type, text)| {
            AddedToken::from(text, token_type.is_special()).normalized(false)
        })
        .collect()
}
