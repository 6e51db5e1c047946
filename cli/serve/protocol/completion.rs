//! `/v1/completions`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Prompts, Usage};

/// The fields that chat completions do not have.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct CompletionFields {
    /// What to continue.
    pub(crate) prompt: Prompts,
    /// A text that the completion leads up to; for models trained to fill in the middle.
    pub(crate) suffix: Option<String>,
    /// Puts the prompt before the completion.
    pub(crate) echo: Option<bool>,
    /// Reports each token's log-probability and so many alternatives.
    pub(crate) logprobs: Option<usize>,
    /// Reports the ids of the prompt, of the completion and, with `logprobs`, of the alternatives.
    pub(crate) return_token_ids: Option<bool>,
}

/// A completion or, with `stream`, a piece of one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CompletionResponse {
    /// The request's id.
    pub(crate) id: String,
    /// `text_completion`.
    pub(crate) object: &'static str,
    /// When it was begun, in seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
    /// The completions, by index.
    pub(crate) choices: Vec<CompletionChoice>,
    /// Tokens that the request took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
}

/// One completion.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    /// Prompt number times `n`, plus the completion's number.
    pub(crate) index: usize,
    /// The text, or a piece of it.
    pub(crate) text: String,
    /// The tokens of the text.
    pub(crate) logprobs: Option<CompletionLogprobs>,
    /// `stop`, `length`, or nothing while it goes on.
    pub(crate) finish_reason: Option<&'static str>,
    /// The ids of the prompt, where ids are asked for; in the first piece of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_token_ids: Option<Vec<u32>>,
    /// The ids of the completion's tokens, where they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_ids: Option<Vec<u32>>,
}

/// The tokens of a text; every list has an entry a token.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    /// Texts.
    pub(crate) tokens: Vec<String>,
    /// Bytes, not always whole characters.
    pub(crate) bytes: Vec<Vec<u8>>,
    /// Natural log-probabilities; none for the first token of a prompt.
    pub(crate) token_logprobs: Vec<Option<f32>>,
    /// Alternatives by text.
    pub(crate) top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each begins, in characters.
    pub(crate) text_offset: Vec<usize>,
    /// Alternatives by id, the likeliest first, where ids are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_tokens: Option<Vec<Vec<TopToken>>>,
}

/// An alternative at some place.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TopToken {
    /// Its id.
    pub(crate) id: u32,
    /// Its text.
    pub(crate) token: String,
    /// Its natural log-probability.
    pub(crate) logprob: f32,
}
