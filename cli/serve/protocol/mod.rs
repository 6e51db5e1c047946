//! What clients send and receive, field by field.

pub(crate) mod chat;
pub(crate) mod completion;
pub(crate) mod embedding;
pub(crate) mod error;
pub(crate) mod generation;
pub(crate) mod tokens;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One text or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a string or an array of strings is wanted")]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(texts: OneOrMany) -> Self {
        match texts {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// A prompt as text or as token ids, or several of either.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "a string, an array of strings, an array of token ids or an array of such arrays is wanted"
)]
pub(crate) enum Prompts {
    /// A text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
    /// Texts and ids, in any order.
    Many(Vec<Prompt>),
}

/// A prompt.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a string or an array of token ids is wanted")]
pub(crate) enum Prompt {
    /// A text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
}

impl From<Prompts> for Vec<Prompt> {
    fn from(prompts: Prompts) -> Self {
        match prompts {
            Prompts::Text(text) => vec![Prompt::Text(text)],
            // An empty array is no prompt at all rather than one without tokens.
            Prompts::Ids(ids) if ids.is_empty() => Vec::new(),
            Prompts::Ids(ids) => vec![Prompt::Ids(ids)],
            Prompts::Many(prompts) => prompts,
        }
    }
}

/// Tokens that a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Of the prompts.
    pub(crate) prompt_tokens: usize,
    /// Of all completions.
    pub(crate) completion_tokens: usize,
    /// Both.
    pub(crate) total_tokens: usize,
    /// More about the prompts.
    pub(crate) prompt_tokens_details: PromptUsage,
}

/// More about the tokens of prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PromptUsage {
    /// Tokens that an earlier request had left in the cache.
    pub(crate) cached_tokens: usize,
}

impl Usage {
    pub(crate) fn new(
        prompt_tokens: usize,
        cached_tokens: usize,
        completion_tokens: usize,
    ) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptUsage { cached_tokens },
        }
    }
}
