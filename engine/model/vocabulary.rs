//! The vocabulary and chat template of a model file.

use onward_tokenizer::{ChatTemplate, TokenType, Tokenizer, Vocabulary, VocabularyKind};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::formats::{Gguf, ModelFile};

/// Texts of tokens that end a turn or a text, whatever the file's metadata says.
const END_TOKENS: [&str; 10] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|return|>",
    "<｜end▁of▁sentence｜>",
];

/// The same, where the text alone does not tell: Gemma has `</s>` for text struck through in
/// HTML. These only count as control tokens.
const AMBIGUOUS_END_TOKENS: [&str; 4] = ["</s>", "<eos>", "<EOT>", "_<EOT>"];

/// Reads the tokenizer of a model.
///
/// # Errors
/// A vocabulary that is missing, inconsistent or of an unknown kind.
pub fn tokenizer_from_file(file: &ModelFile) -> Result<Tokenizer> {
    match file {
        ModelFile::Gguf(file) => tokenizer_from_gguf(file),
        ModelFile::Hub(directory) => {
            Tokenizer::from_files(&directory.tokenizer_json()?, directory.tokenizer_config())
                .map_err(|error| Error::model(directory.path(), error.to_string()))
        }
    }
}

/// Reads the tokenizer in a GGUF file's metadata (`tokenizer.ggml.*`).
///
/// # Errors
/// A vocabulary that is missing, inconsistent or of an unknown kind.
pub fn tokenizer_from_gguf(file: &Gguf) -> Result<Tokenizer> {
    let tokens: Vec<&str> = match file.strings("tokenizer.ggml.tokens")? {
        Some(tokens) => tokens,
        None => {
            return Err(Error::model(
                file.path(),
                "the key tokenizer.ggml.tokens is missing",
            ));
        }
    };
    let kind = kind(file)?;
    let types = token_types(file, tokens.len())?;
    let id = |name: &str| file.optional_u32(&format!("tokenizer.ggml.{name}"));
    let eos = id("eos_token_id")?;
    let mut stop: Vec<u32> = [eos, id("eot_token_id")?, id("eom_token_id")?]
        .into_iter()
        .flatten()
        .collect();
    for (id, (text, kind)) in tokens.iter().zip(&types).enumerate() {
        if ends_text(text, *kind) && !stop.contains(&(id as u32)) {
            stop.push(id as u32);
        }
    }
    let merges = file.strings("tokenizer.ggml.merges")?;
    let vocabulary = Vocabulary {
        scores: file.f32s("tokenizer.ggml.scores")?.unwrap_or_default(),
        merges: merges.unwrap_or_default(),
        bos: id("bos_token_id")?,
        eos,
        unknown: id("unknown_token_id")?,
        stop,
        add_bos: file
            .optional_bool("tokenizer.ggml.add_bos_token")?
            .unwrap_or_else(|| kind.adds_bos_by_default()),
        add_eos: file
            .optional_bool("tokenizer.ggml.add_eos_token")?
            .unwrap_or(false),
        kind,
        tokens,
        types,
    };
    Tokenizer::from_vocabulary(&vocabulary)
        .map_err(|error| Error::model(file.path(), error.to_string()))
}

/// Whether a token by its text and type ends a turn or a text.
fn ends_text(text: &str, kind: TokenType) -> bool {
    match kind {
        TokenType::Control => END_TOKENS.contains(&text) || AMBIGUOUS_END_TOKENS.contains(&text),
        TokenType::UserDefined => END_TOKENS.contains(&text),
        _ => false,
    }
}

fn kind(file: &Gguf) -> Result<VocabularyKind> {
    match file.required_str("tokenizer.ggml.model")? {
        "llama" => Ok(VocabularyKind::SentencePiece {
            add_space_prefix: file
                .optional_bool("tokenizer.ggml.add_space_prefix")?
                .unwrap_or(true),
        }),
        "gpt2" => Ok(VocabularyKind::ByteLevelBpe {
            pre: file
                .optional_str("tokenizer.ggml.pre")?
                .unwrap_or("default")
                .to_owned(),
        }),
        other => Err(Error::model(
            file.path(),
            format!("the tokenizer model {other:?} is not supported (supported: llama, gpt2)"),
        )),
    }
}

fn token_types(file: &Gguf, n_tokens: usize) -> Result<Vec<TokenType>> {
    let Some(codes) = file.i32s("tokenizer.ggml.token_type")? else {
        return Ok(vec![TokenType::Normal; n_tokens]);
    };
    codes
        .iter()
        .enumerate()
        .map(|(id, &code)| {
            TokenType::from_code(code.into()).ok_or_else(|| {
                Error::model(
                    file.path(),
                    format!("token {id} has the unknown type {code}"),
                )
            })
        })
        .collect()
}

/// The ids that end a text: the tokenizer's, and for a directory those of its configuration.
pub(crate) fn stop_ids(file: &ModelFile, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ids = tokenizer.stop_ids().to_vec();
    if let ModelFile::Hub(directory) = file {
        let configs = [Some(directory.config()), directory.generation_config()];
        for config in configs.into_iter().flatten() {
            ids.extend(end_ids(&config["eos_token_id"]));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// `eos_token_id` is a number or a list of them.
fn end_ids(value: &Value) -> Vec<u32> {
    let ids = match value {
        Value::Array(ids) => ids.as_slice(),
        one => std::slice::from_ref(one),
    };
    ids.iter()
        .filter_map(|id| u32::try_from(id.as_u64()?).ok())
        .collect()
}

/// The chat template of a model file, compiled.
///
/// # Errors
/// A template that does not parse.
pub(crate) fn chat_template(
    file: &ModelFile,
    tokenizer: &Tokenizer,
) -> Result<Option<ChatTemplate>> {
    let source = match file {
        ModelFile::Gguf(file) => file.optional_str("tokenizer.chat_template")?,
        ModelFile::Hub(directory) => directory.chat_template(),
    };
    let text = |id: Option<u32>| {
        id.and_then(|id| tokenizer.token_text(id))
            .unwrap_or_default()
    };
    source
        .map(|source| ChatTemplate::new(source, &text(tokenizer.bos()), &text(tokenizer.eos())))
        .transpose()
        .map_err(|error| Error::model(file.path(), error.to_string()))
}
