//! `/v1/embeddings`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Prompts;

/// Texts to embed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingRequest {
    /// The model's name as `/v1/models` has it.
    pub(crate) model: Option<String>,
    /// Texts, or token ids.
    pub(crate) input: Prompts,
    /// Numbers, or base64 of little-endian 32-bit floats.
    #[serde(default)]
    pub(crate) encoding_format: EncodingFormat,
    /// Not supported: the vectors have the model's width.
    pub(crate) dimensions: Option<usize>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    /// As numbers.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// Vectors of length 1.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingResponse {
    /// `list`.
    pub(crate) object: &'static str,
    /// A vector for each text.
    pub(crate) data: Vec<Embedding>,
    /// The model's name.
    pub(crate) model: String,
    /// Tokens that the request took.
    pub(crate) usage: EmbeddingUsage,
}

/// The vector of a text.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Embedding {
    /// `embedding`.
    pub(crate) object: &'static str,
    /// The text's number.
    pub(crate) index: usize,
    /// The vector.
    pub(crate) embedding: Vector,
}

/// A vector.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Vector {
    /// As numbers.
    Float(Vec<f32>),
    /// As base64 of little-endian 32-bit floats.
    Base64(String),
}

/// Tokens that texts to embed took.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    /// Of the texts.
    pub(crate) prompt_tokens: usize,
    /// The same.
    pub(crate) total_tokens: usize,
}
