//! The model description in a Hugging Face `config.json`.
//!
//! Both the flat form of older files (`rope_theta`, `rope_scaling`) and the nested
//! `rope_parameters` of transformers 5 are read.

use std::path::Path;

use onward_kernels::ops::attention::Mask;
use onward_kernels::ops::gated::Activation;
use onward_kernels::ops::rope_append::{Rope, RopePairs};
use serde::Deserialize;
use serde_json::Value;

use super::config::{AttentionConfig, FeedForward, HeadConfig, LayerConfig, ModelConfig};
use super::rope::{Scaling, inverse_frequencies};
use crate::error::{Error, Result};
use crate::formats::HubDirectory;

/// The `model_type`s this engine runs.
const SUPPORTED: [&str; 4] = ["gemma3_text", "llama", "qwen2", "qwen3"];

/// Reads the model's shape from a directory's `config.json`.
///
/// # Errors
/// An unsupported family or setting, a missing or mistyped field, or shapes that do not fit.
pub(super) fn config(directory: &HubDirectory) -> Result<ModelConfig> {
    let path = directory.path();
    parse(directory.config())
        .and_then(|config| config.check().map(|()| config))
        .map_err(|detail| in_config(path, &detail))
}

fn in_config(path: &Path, detail: &str) -> Error {
    Error::model(&path.join("config.json"), detail)
}

/// The fields that matter, as transformers names them.
#[derive(Deserialize)]
struct Fields {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    tie_word_embeddings: Option<bool>,
    sliding_window: Option<usize>,
    #[serde(default)]
    use_sliding_window: bool,
    layer_types: Option<Vec<String>>,
    sliding_window_pattern: Option<usize>,
    query_pre_attn_scalar: Option<f32>,
    attn_logit_softcapping: Option<f32>,
    final_logit_softcapping: Option<f32>,
    rope_theta: Option<f32>,
    rope_local_base_freq: Option<f32>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
}

fn parse(config: &Value) -> Result<ModelConfig, String> {
    let model_type = config
        .get("model_type")
        .and_then(Value::as_str)
        .ok_or("model_type is missing")?;
    if !SUPPORTED.contains(&model_type) {
        return Err(format!(
            "the model type {model_type:?} is not supported (supported: {})",
            SUPPORTED.join(", ")
        ));
    }
    let fields = Fields::deserialize(config).map_err(|error| error.to_string())?;
    fields.model()
}

impl Fields {
    fn is_gemma(&self) -> bool {
        self.model_type == "gemma3_text"
    }

    fn model(&self) -> Result<ModelConfig, String> {
        if self.mlp_bias {
            return Err("biases in the feed-forward layers are not supported".to_owned());
        }
        if self.num_hidden_layers > 1024 {
            return Err(format!(
                "the layer count is {}, beyond anything real",
                self.num_hidden_layers
            ));
        }
        let gemma = self.is_gemma();
        Ok(ModelConfig {
            family: self.model_type.trim_end_matches("_text").to_owned(),
            name: None,
            vocab_size: self.vocab_size,
            width: self.hidden_size,
            n_ctx_train: self.max_position_embeddings,
            embedding_scale: if gemma {
                (self.hidden_size as f32).sqrt()
            } else {
                1.0
            },
            norm_epsilon: self.rms_norm_eps,
            norm_offset: if gemma { 1.0 } else { 0.0 },
            layers: (0..self.num_hidden_layers)
                .map(|index| self.layer(index))
                .collect::<Result<_, _>>()?,
            head: HeadConfig {
                // transformers' own default differs by family.
                tied: self.tie_word_embeddings.unwrap_or(gemma),
                scale: 1.0,
                soft_cap: self.final_logit_softcapping,
            },
        })
    }

    fn layer(&self, index: usize) -> Result<LayerConfig, String> {
        let head_dim = match self.head_dim {
            Some(dim) => dim,
            None => self.hidden_size / self.num_attention_heads.max(1),
        };
        let sliding = self.is_sliding(index)?;
        let mask = match (sliding, self.sliding_window) {
            (false, _) => Mask::Causal,
            (true, Some(window)) => Mask::Window(window),
            (true, None) => return Err("sliding_window is missing".to_owned()),
        };
        if head_dim > 1024 {
            return Err(format!("the head size is {head_dim}"));
        }
        Ok(LayerConfig {
            attention: AttentionConfig {
                n_heads: self.num_attention_heads,
                n_kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
                head_dim,
                scale: 1.0 / self.query_pre_attn_scalar.unwrap_or(head_dim as f32).sqrt(),
                soft_cap: self.attn_logit_softcapping,
                mask,
                rope: Some(self.rope(head_dim, sliding)?),
                qk_norm: matches!(self.model_type.as_str(), "gemma3_text" | "qwen3"),
                qkv_bias: self.model_type == "qwen2" || self.attention_bias,
                output_bias: self.attention_bias,
            },
            feed_forward: FeedForward::Gated {
                width: self.intermediate_size,
                activation: self.activation()?,
            },
            post_norms: self.is_gemma(),
        })
    }

    fn activation(&self) -> Result<Activation, String> {
        let name = self.hidden_activation.as_ref().or(self.hidden_act.as_ref());
        match name.map(String::as_str) {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some(other) => Err(format!("the activation {other:?} is not supported")),
            None => Err("hidden_act is missing".to_owned()),
        }
    }

    fn is_sliding(&self, index: usize) -> Result<bool, String> {
        if let Some(types) = &self.layer_types {
            return match types.get(index).map(String::as_str) {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                Some(other) => Err(format!("the layer type {other:?} is not supported")),
                None => Err(format!("layer_types has no entry {index}")),
            };
        }
        if self.is_gemma() {
            let pattern = self.sliding_window_pattern.unwrap_or(6).max(1);
            return Ok(!(index + 1).is_multiple_of(pattern));
        }
        if self.use_sliding_window {
            return Err("use_sliding_window needs layer_types".to_owned());
        }
        Ok(false)
    }

    fn rope(&self, head_dim: usize, sliding: bool) -> Result<Rope, String> {
        let (base, scaling) = match &self.rope_parameters {
            Some(parameters) => {
                let kind = if sliding {
                    "sliding_attention"
                } else {
                    "full_attention"
                };
                let own = parameters.get(kind).unwrap_or(parameters);
                let base = RopeFields::read(own)?
                    .rope_theta
                    .ok_or("rope_parameters has no rope_theta")?;
                (base, RopeFields::read(own)?.scaling()?)
            }
            None if self.is_gemma() && sliding => {
                (self.rope_local_base_freq.unwrap_or(10_000.0), Scaling::None)
            }
            None => {
                let default = if self.is_gemma() {
                    1_000_000.0
                } else {
                    10_000.0
                };
                let scaling = match &self.rope_scaling {
                    None | Some(Value::Null) => Scaling::None,
                    Some(value) => RopeFields::read(value)?.scaling()?,
                };
                (self.rope_theta.unwrap_or(default), scaling)
            }
        };
        Ok(Rope {
            inverse_frequencies: inverse_frequencies(base, head_dim, scaling),
            attention_factor: 1.0,
            pairs: RopePairs::Halves,
        })
    }
}

/// `rope_parameters` or `rope_scaling`.
#[derive(Deserialize)]
struct RopeFields {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
    partial_rotary_factor: Option<f32>,
}

impl RopeFields {
    fn read(value: &Value) -> Result<Self, String> {
        Self::deserialize(value).map_err(|error| format!("rope parameters: {error}"))
    }

    fn scaling(&self) -> Result<Scaling, String> {
        if self
            .partial_rotary_factor
            .is_some_and(|factor| factor != 1.0)
        {
            return Err("partial rotary embedding is not supported".to_owned());
        }
        let need = |value: Option<f32>, name: &str| {
            value.ok_or_else(|| format!("the RoPE scaling lacks {name}"))
        };
        match self.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear {
                factor: need(self.factor, "factor")?,
            }),
            "llama3" => Ok(Scaling::Llama3 {
                factor: need(self.factor, "factor")?,
                low_frequency_factor: need(self.low_freq_factor, "low_freq_factor")?,
                high_frequency_factor: need(self.high_freq_factor, "high_freq_factor")?,
                original_context: need(
                    self.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            }),
            other => Err(format!(
                "the RoPE scaling {other:?} is not supported (supported: default, linear, llama3)"
            )),
        }
    }
}
