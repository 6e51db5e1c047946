//! Everything that can go wrong between text and token ids.

/// Why a tokenizer or a chat template could not be built or applied.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The vocabulary names a pre-tokenizer whose splitting rules are not known.
    #[error("the pre-tokenizer {name:?} that the vocabulary names is not supported")]
    UnknownPreTokenizer {
        /// The value of `tokenizer.ggml.pre`.
        name: String,
    },

    /// The parts of a vocabulary contradict each other.
    #[error("the vocabulary is invalid: {detail}")]
    InvalidVocabulary {
        /// What contradicts what.
        detail: String,
    },

    /// A `tokenizer.json` could not be read or uses parts that are not supported.
    #[error("tokenizer.json is invalid: {detail}")]
    InvalidFile {
        /// What the parser or the check said.
        detail: String,
    },

    /// A text could not be turned into token ids.
    #[error("the text cannot be tokenized: {detail}")]
    Encode {
        /// What the tokenizer said.
        detail: String,
    },

    /// An id beyond the vocabulary was to be decoded.
    #[error("token id {id} is outside the vocabulary of {vocab_size} tokens")]
    UnknownId {
        /// The id asked for.
        id: u32,
        /// Number of ids in the vocabulary.
        vocab_size: usize,
    },

    /// A beginning-of-sequence token was asked for, but the vocabulary has none.
    #[error("the vocabulary has no beginning-of-sequence token")]
    NoBos,

    /// A chat template does not parse.
    #[error("the chat template is invalid: {detail}")]
    InvalidTemplate {
        /// What the template engine said, on one line.
        detail: String,
    },

    /// A chat template failed on these messages, or took too much time or memory.
    #[error("the chat template failed: {detail}")]
    Render {
        /// What the template engine or the template itself said, on one line.
        detail: String,
    },
}

impl TokenizerError {
    pub(crate) fn vocabulary(detail: impl Into<String>) -> Self {
        Self::InvalidVocabulary {
            detail: detail.into(),
        }
    }

    pub(crate) fn file(detail: impl ToString) -> Self {
        Self::InvalidFile {
            detail: detail.to_string(),
        }
    }
}
