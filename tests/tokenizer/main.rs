//! Text to token ids and back: real vocabularies against golden ids, streams and round trips on
//! arbitrary text, chat templates, and what hostile texts, vocabularies and templates can do.

mod golden;
mod properties;
mod splits;
mod templates;
mod vocabularies;

use std::sync::LazyLock;

use onward_engine::formats::Gguf;
use onward_engine::model::vocabulary::tokenizer_from_gguf;
use onward_tests::{GEMMA, QWEN, model_path};
use onward_tokenizer::Tokenizer;

/// SentencePiece-style, byte fallback, user-defined runs of spaces and newlines.
static GEMMA_TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| load(GEMMA));
/// Byte-level BPE with the `qwen2` split.
static QWEN_TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| load(QWEN));

fn open(name: &str) -> Gguf {
    Gguf::open(&model_path(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn load(name: &str) -> Tokenizer {
    tokenizer_from_gguf(&open(name)).unwrap_or_else(|error| panic!("{error}"))
}
