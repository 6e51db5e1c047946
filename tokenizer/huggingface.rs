//! Tokenizers of Hugging Face directories: `tokenizer.json` and `tokenizer_config.json`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{DecoderWrapper, NormalizerWrapper};

use crate::token_table::{MAX_TOKENS, Spelling, TokenTable, byte_value};
use crate::tokenizer::SpecialTokens;
use crate::vocabulary::TokenType;
use crate::{Tokenizer, TokenizerError};

impl Tokenizer {
    /// Builds the tokenizer of a Hugging Face directory from the bytes of its `tokenizer.json`
    /// and its `tokenizer_config.json`, which names BOS and EOS.
    ///
    /// # Errors
    /// A file that does not parse, or whose decoder is neither byte-level nor SentencePiece-style.
    pub fn from_files(
        tokenizer_json: &[u8],
        tokenizer_config: Option<&Value>,
    ) -> Result<Self, TokenizerError> {
        let head: Head = serde_json::from_slice(tokenizer_json).map_err(TokenizerError::file)?;
        if head
            .model
            .continuing_subword_prefix
            .is_some_and(|prefix| !prefix.is_empty())
        {
            return Err(TokenizerError::file(
                "its continuing_subword_prefix is not supported",
            ));
        }
        let mut encoder =
            tokenizers::Tokenizer::from_bytes(tokenizer_json).map_err(TokenizerError::file)?;
        // Prompts are never cut or filled up, whatever the tokenizer was last used for.
        encoder
            .with_truncation(None)
            .map_err(TokenizerError::file)?;
        encoder.with_padding(None);
        let spelling = spelling_of(encoder.get_decoder())?;
        let table = table_of(&encoder, spelling)?;
        let special = special_tokens(&encoder, tokenizer_config.unwrap_or(&Value::Null), spelling)?;
        Self::new(Box::new(encoder.into_inner()), Arc::new(table), special)
    }
}

/// What is looked at before the crate reads the file: a prefix would panic in there when the
/// tokens do not have it.
#[derive(Deserialize)]
struct Head {
    model: ModelHead,
}

#[derive(Deserialize)]
struct ModelHead {
    continuing_subword_prefix: Option<String>,
}

/// How token texts spell bytes, told by the decoder.
fn spelling_of(decoder: Option<&DecoderWrapper>) -> Result<Spelling, TokenizerError> {
    let name = match decoder {
        Some(DecoderWrapper::ByteLevel(_)) => return Ok(Spelling::ByteLevel),
        Some(DecoderWrapper::Metaspace(_)) => return Ok(Spelling::SentencePiece),
        Some(DecoderWrapper::Sequence(sequence)) => {
            let mut parts = sequence.get_decoders().iter();
            return match parts.find_map(|part| spelling_of(Some(part)).ok()) {
                Some(spelling) => Ok(spelling),
                None => Err(TokenizerError::file("its decoder is not supported")),
            };
        }
        Some(DecoderWrapper::Replace(_) | DecoderWrapper::ByteFallback(_)) => {
            return Ok(Spelling::SentencePiece);
        }
        Some(DecoderWrapper::WordPiece(_)) => "WordPiece",
        Some(DecoderWrapper::BPE(_)) => "BPEDecoder",
        Some(DecoderWrapper::CTC(_)) => "CTC",
        Some(DecoderWrapper::Strip(_)) => "Strip",
        Some(DecoderWrapper::Fuse(_)) => "Fuse",
        None => return Err(TokenizerError::file("it has no decoder")),
    };
    Err(TokenizerError::file(format!(
        "its decoder {name} is not supported"
    )))
}

/// All texts by id; ids that no token has become unused ones.
fn table_of(
    encoder: &tokenizers::Tokenizer,
    spelling: Spelling,
) -> Result<TokenTable, TokenizerError> {
    let vocabulary = encoder.get_vocab(true);
    let last = vocabulary
        .values()
        .copied()
        .max()
        .ok_or_else(|| TokenizerError::file("its vocabulary is empty"))?;
    if last as usize >= MAX_TOKENS {
        return Err(TokenizerError::file(format!(
            "its vocabulary has the id {last}"
        )));
    }
    let mut texts = vec![""; last as usize + 1];
    let mut types = vec![TokenType::Unused; texts.len()];
    for (text, &id) in &vocabulary {
        texts[id as usize] = text;
        let is_byte = spelling == Spelling::SentencePiece && byte_value(text).is_some();
        types[id as usize] = if is_byte {
            TokenType::Byte
        } else {
            TokenType::Normal
        };
    }
    let added = encoder.get_added_vocabulary().get_added_tokens_decoder();
    for (&id, token) in added {
        if let Some(token_type) = types.get_mut(id as usize) {
            *token_type = if token.special {
                TokenType::Control
            } else {
                TokenType::UserDefined
            };
        }
    }
    TokenTable::new(&texts, types, spelling)
}

/// BOS and EOS by the names in the configuration, and whether encoding adds them.
fn special_tokens(
    encoder: &tokenizers::Tokenizer,
    config: &Value,
    spelling: Spelling,
) -> Result<SpecialTokens, TokenizerError> {
    let id_of = |key: &str| encoder.token_to_id(token_content(config.get(key)?)?);
    let (bos, eos) = (id_of("bos_token"), id_of("eos_token"));
    let framed = encoder
        .encode_fast("", true)
        .map_err(TokenizerError::file)?;
    let starts_with_bos = bos.is_some() && framed.get_ids().first().copied() == bos;
    let ends_with_eos = eos.is_some() && framed.get_ids().last().copied() == eos;
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    Ok(SpecialTokens {
        bos,
        eos,
        stop: eos.into_iter().collect(),
        add_bos: flag("add_bos_token").unwrap_or(starts_with_bos),
        add_eos: flag("add_eos_token").unwrap_or(ends_with_eos),
        add_space_prefix: spelling == Spelling::SentencePiece && adds_space_prefix(encoder),
    })
}

/// The text of a token in `tokenizer_config.json`: a string, or an object around one.
fn token_content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// Whether encoding puts a space before the text.
fn adds_space_prefix(encoder: &tokenizers::Tokenizer) -> bool {
    use tokenizers::PreTokenizerWrapper;
    use tokenizers::pre_tokenizers::metaspace::PrependScheme;

    fn prepends(normalizer: &NormalizerWrapper) -> bool {
        match normalizer {
            NormalizerWrapper::Prepend(_) => true,
            NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(prepends),
            _ => false,
        }
    }
    let by_metaspace = matches!(
        encoder.get_pre_tokenizer(),
        Some(PreTokenizerWrapper::Metaspace(metaspace)) if metaspace.prepend_scheme != PrependScheme::Never
    );
    by_metaspace || encoder.get_normalizer().is_some_and(prepends)
}
