//! The fields that completions of both kinds have in common.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::OneOrMany;

/// How tokens are drawn and when a completion ends. What is left out comes from the model, where
/// it recommends values, else from the engine's defaults.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct GenerationFields {
    /// The model's name as `/v1/models` has it.
    pub(crate) model: Option<String>,
    /// The most tokens to generate.
    pub(crate) max_tokens: Option<usize>,
    /// The same by its newer name.
    pub(crate) max_completion_tokens: Option<usize>,
    /// Sharpens (below 1) or flattens (above 1) the distribution; 0 takes the likeliest token.
    pub(crate) temperature: Option<f32>,
    /// Keeps the fewest tokens whose probabilities reach this together.
    pub(crate) top_p: Option<f32>,
    /// Keeps so many of the likeliest tokens; 0 and -1 keep all.
    pub(crate) top_k: Option<i64>,
    /// Keeps tokens at least so many times as likely as the likeliest.
    pub(crate) min_p: Option<f32>,
    /// Completions for each prompt.
    pub(crate) n: Option<usize>,
    /// Not supported beyond `n`.
    pub(crate) best_of: Option<usize>,
    /// Texts that end a completion; they are not part of it.
    pub(crate) stop: Option<OneOrMany>,
    /// The same seed gives the same text; a random one where it is left out or -1.
    #[schema(value_type = Option<i64>)]
    pub(crate) seed: Option<i128>,
    /// Streams the completion as server-sent events.
    pub(crate) stream: Option<bool>,
    /// How it is streamed.
    pub(crate) stream_options: Option<StreamOptions>,
    /// What to add to tokens' scores, by their ids.
    #[schema(value_type = Option<std::collections::BTreeMap<String, f32>>)]
    pub(crate) logit_bias: Option<Map<String, Value>>,
    /// Lowers the score of every recent token.
    pub(crate) presence_penalty: Option<f32>,
    /// Lowers a recent token's score for each time it has appeared.
    pub(crate) frequency_penalty: Option<f32>,
    /// Makes recent tokens less likely, dividing their scores.
    #[serde(alias = "repeat_penalty")]
    pub(crate) repetition_penalty: Option<f32>,
    /// How many tokens back the penalties look.
    pub(crate) repeat_last_n: Option<usize>,
    /// Goes on past the model's own end-of-text tokens.
    pub(crate) ignore_eos: Option<bool>,
    /// What the text must be.
    pub(crate) response_format: Option<ResponseFormat>,
    /// A JSON schema that the text must fit.
    #[serde(alias = "json_schema")]
    #[schema(value_type = Option<Object>)]
    pub(crate) guided_json: Option<Value>,
    /// A regular expression that must match the whole text.
    pub(crate) guided_regex: Option<String>,
    /// Texts of which the completion must be one.
    pub(crate) guided_choice: Option<Vec<String>>,
    /// A grammar in llguidance's dialect of Lark that the text must follow.
    #[serde(alias = "guided_grammar")]
    pub(crate) grammar: Option<String>,
}

/// What the text must be.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    /// Anything.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema {
        /// The schema and its name.
        json_schema: NamedSchema,
    },
}

/// A JSON schema with a name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct NamedSchema {
    /// The schema.
    #[schema(value_type = Object)]
    pub(crate) schema: Value,
}

/// How a completion is streamed.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Ends the stream with a chunk that has the usage.
    pub(crate) include_usage: Option<bool>,
}
