//! `/tokenize`, `/detokenize` and `/v1/models`: the fields of llama.cpp's server and of vLLM's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A text to tokenize: `content` as llama.cpp has it, or `prompt` as vLLM has it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct TokenizeRequest {
    /// The text, without a beginning-of-sequence token unless `add_special` asks for it.
    pub(crate) content: Option<String>,
    /// The text, with a beginning-of-sequence token, if the model wants one, unless
    /// `add_special_tokens` is false.
    pub(crate) prompt: Option<String>,
    /// Puts the beginning-of-sequence token before `content`.
    pub(crate) add_special: Option<bool>,
    /// Puts it before `prompt`.
    pub(crate) add_special_tokens: Option<bool>,
    /// Reports tokens as `{"id":…,"piece":…}`.
    pub(crate) with_pieces: Option<bool>,
    /// Reports the tokens' texts.
    pub(crate) return_token_strs: Option<bool>,
}

/// The tokens of a text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenizeResponse {
    /// How many.
    pub(crate) count: usize,
    /// Positions a sequence may reach.
    pub(crate) max_model_len: usize,
    /// Their ids.
    pub(crate) tokens: Vec<TokenOfText>,
    /// Their texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_strs: Option<Vec<String>>,
}

/// A token.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum TokenOfText {
    /// Its id.
    Id(u32),
    /// Its id and its text.
    Piece {
        /// Its id.
        id: u32,
        /// Its text, or its bytes where they are no whole characters.
        piece: Piece,
    },
}

/// What a token stands for.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Piece {
    /// Whole characters.
    Text(String),
    /// Others.
    Bytes(Vec<u8>),
}

/// Token ids to turn into text.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct DetokenizeRequest {
    /// The ids.
    pub(crate) tokens: Vec<u32>,
}

/// The text of token ids, by both names.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DetokenizeResponse {
    /// As llama.cpp names it.
    pub(crate) content: String,
    /// As vLLM names it.
    pub(crate) prompt: String,
}

/// The models that are served.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`.
    pub(crate) object: &'static str,
    /// The model by each of its names.
    pub(crate) data: Vec<ModelCard>,
}

/// A model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ModelCard {
    /// Its name.
    pub(crate) id: String,
    /// `model`.
    pub(crate) object: &'static str,
    /// When the server began, in seconds since 1970.
    pub(crate) created: u64,
    /// `onward`.
    pub(crate) owned_by: &'static str,
    /// The name that it is an alias of.
    pub(crate) root: String,
    /// Positions a sequence may reach.
    pub(crate) max_model_len: usize,
}

/// What requests need to know of the model; the first field is as llama.cpp has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PropsResponse {
    /// What a request has where it says nothing.
    pub(crate) default_generation_settings: DefaultSettings,
    /// Whether it takes conversations.
    pub(crate) has_chat_template: bool,
    /// Tokens with which it ends a text.
    pub(crate) stop_token_ids: Vec<u32>,
    /// Tokens it knows.
    pub(crate) vocab_size: usize,
}

/// What a request has where it says nothing.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct DefaultSettings {
    /// Positions a sequence may reach.
    pub(crate) n_ctx: usize,
    /// How tokens are drawn.
    pub(crate) params: DefaultParams,
}

/// How tokens are drawn where nothing is said.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct DefaultParams {
    /// The temperature.
    pub(crate) temperature: f32,
    /// How many of the likeliest tokens are kept.
    pub(crate) top_k: usize,
    /// The share of the mass that is kept.
    pub(crate) top_p: f32,
    /// How likely a token must be beside the likeliest.
    pub(crate) min_p: f32,
}

/// Whether the server serves.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct HealthResponse {
    /// `ok`.
    pub(crate) status: &'static str,
}
