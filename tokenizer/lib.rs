//! Token ids to text and back.
//!
//! A [`Tokenizer`] is built from the vocabulary of a model file ([`Tokenizer::from_vocabulary`])
//! or from a Hugging Face `tokenizer.json` ([`Tokenizer::from_files`]). Encoding runs through the
//! `tokenizers` crate; decoding works on bytes, so that a [`DecodeStream`] can hand out text as it
//! is generated without ever cutting a character. A [`ChatTemplate`] turns messages into a prompt.

mod byte_level;
mod chat;
mod error;
mod huggingface;
mod merging;
mod model;
mod pre_tokenizer;
mod python_compat;
mod space_runs;
mod stream;
mod text_set;
mod token_table;
mod tokenizer;
mod vocabulary;

pub use chat::{ChatTemplate, Conversation, Message};
pub use error::TokenizerError;
pub use stream::DecodeStream;
pub use tokenizer::Tokenizer;
pub use vocabulary::{TokenType, Vocabulary, VocabularyKind};
