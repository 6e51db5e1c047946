//! The model description in a GGUF file's metadata.
//!
//! Keys are those of the GGUF specification, prefixed by `general.architecture`.

use onward_kernels::ops::attention::Mask;
use onward_kernels::ops::gated::Activation;
use onward_kernels::ops::rope_append::{Rope, RopePairs};

use super::config::{AttentionConfig, FeedForward, HeadConfig, LayerConfig, ModelConfig};
use super::rope::{Scaling, inverse_frequencies};
use crate::error::{Error, Result};
use crate::formats::Gguf;

/// The architectures this engine runs.
const SUPPORTED: [&str; 4] = ["gemma3", "llama", "qwen2", "qwen3"];

/// Reads the model's shape from a GGUF file.
///
/// # Errors
/// An unsupported architecture, a missing or mistyped key, or shapes that do not fit.
pub(super) fn config(file: &Gguf) -> Result<ModelConfig> {
    let family = file.required_str("general.architecture")?;
    if !SUPPORTED.contains(&family) {
        return Err(Error::model(
            file.path(),
            format!(
                "the architecture {family:?} is not supported (supported: {})",
                SUPPORTED.join(", ")
            ),
        ));
    }
    let keys = Keys { file, family };
    let config = keys.model()?;
    config
        .check()
        .map_err(|detail| Error::model(file.path(), detail))?;
    Ok(config)
}

/// The metadata under one architecture's prefix.
struct Keys<'a> {
    file: &'a Gguf,
    family: &'a str,
}

/// What layers share before the family's pattern tells them apart.
struct Shape {
    width: usize,
    head_dim: usize,
    n_heads: Vec<u32>,
    n_kv_heads: Vec<u32>,
    feed_forward: Vec<u32>,
}

impl Keys<'_> {
    fn key(&self, tail: &str) -> String {
        format!("{}.{tail}", self.family)
    }

    fn u32(&self, tail: &str) -> Result<usize> {
        Ok(self.file.required_u32(&self.key(tail))? as usize)
    }

    fn f32_or(&self, tail: &str, default: f32) -> Result<f32> {
        Ok(self.file.optional_f32(&self.key(tail))?.unwrap_or(default))
    }

    fn per_layer(&self, tail: &str, n_layers: usize) -> Result<Option<Vec<u32>>> {
        Ok(self.file.per_layer_u32(&self.key(tail), n_layers)?)
    }

    fn shape(&self) -> Result<Shape> {
        let n_layers = self.u32("block_count")?;
        if n_layers > 1024 {
            return Err(Error::model(
                self.file.path(),
                format!("the layer count is {n_layers}, beyond anything real"),
            ));
        }
        let missing =
            |tail: &str| Error::model(self.file.path(), format!("{} is missing", self.key(tail)));
        let width = self.u32("embedding_length")?;
        let n_heads = self
            .per_layer("attention.head_count", n_layers)?
            .ok_or_else(|| missing("attention.head_count"))?;
        let n_kv_heads = self
            .per_layer("attention.head_count_kv", n_layers)?
            .unwrap_or_else(|| n_heads.clone());
        let feed_forward = self
            .per_layer("feed_forward_length", n_layers)?
            .ok_or_else(|| missing("feed_forward_length"))?;
        let key_length = self.file.optional_u32(&self.key("attention.key_length"))?;
        let head_dim = match (key_length, n_heads.first()) {
            (Some(d), _) => d as usize,
            (None, Some(&n)) if n > 0 => width / n as usize,
            _ => 0,
        };
        let value_length = self
            .file
            .optional_u32(&self.key("attention.value_length"))?;
        if value_length.is_some_and(|v| v as usize != head_dim) {
            return Err(Error::model(
                self.file.path(),
                "keys and values of different lengths are not supported",
            ));
        }
        Ok(Shape {
            width,
            head_dim,
            n_heads,
            n_kv_heads,
            feed_forward,
        })
    }

    fn model(&self) -> Result<ModelConfig> {
        let shape = self.shape()?;
        let n_layers = shape.n_heads.len();
        let rotary = self.rotary(&shape)?;
        let gemma = self.family == "gemma3";
        let layers = (0..n_layers)
            .map(|index| self.layer(&shape, &rotary, index))
            .collect::<Result<_>>()?;
        Ok(ModelConfig {
            family: self.family.to_owned(),
            name: self.file.optional_str("general.name")?.map(str::to_owned),
            vocab_size: self.vocab_size()?,
            width: shape.width,
            n_ctx_train: self.u32("context_length")?,
            embedding_scale: if gemma {
                (shape.width as f32).sqrt()
            } else {
                1.0
            },
            norm_epsilon: self
                .file
                .required_f32(&self.key("attention.layer_norm_rms_epsilon"))?,
            // The converter has already added Gemma's one.
            norm_offset: 0.0,
            layers,
            head: HeadConfig {
                tied: self.file.tensor("output.weight").is_none(),
                scale: 1.0,
                soft_cap: None,
            },
        })
    }

    /// The vocabulary's size is the embedding table's: some files pad it beyond their tokens.
    fn vocab_size(&self) -> Result<usize> {
        let table = self.file.tensor("token_embd.weight").ok_or_else(|| {
            Error::model(self.file.path(), "the tensor token_embd.weight is missing")
        })?;
        Ok(table.shape.first().copied().unwrap_or(0))
    }

    fn layer(&self, shape: &Shape, rotary: &Rotary, index: usize) -> Result<LayerConfig> {
        let gemma = self.family == "gemma3";
        let global = !gemma || (index + 1).is_multiple_of(GEMMA3_PATTERN);
        let mask = match (gemma, global) {
            (true, false) => Mask::Window(self.u32("attention.sliding_window")?),
            _ => Mask::Causal,
        };
        let bias = format!("blk.{index}.attn_q.bias");
        let output_bias = format!("blk.{index}.attn_output.bias");
        Ok(LayerConfig {
            attention: AttentionConfig {
                n_heads: shape.n_heads[index] as usize,
                n_kv_heads: shape.n_kv_heads[index] as usize,
                head_dim: shape.head_dim,
                scale: self.attention_scale(shape),
                soft_cap: None,
                mask,
                rope: Some(if global {
                    rotary.global.clone()
                } else {
                    rotary.local.clone()
                }),
                qk_norm: matches!(self.family, "gemma3" | "qwen3"),
                qkv_bias: self.family == "qwen2" || self.file.tensor(&bias).is_some(),
                output_bias: self.file.tensor(&output_bias).is_some(),
            },
            feed_forward: FeedForward::Gated {
                width: shape.feed_forward[index] as usize,
                activation: if gemma {
                    Activation::GeluTanh
                } else {
                    Activation::Silu
                },
            },
            post_norms: gemma,
        })
    }

    /// `1/√head_dim`, but for Gemma 3 27B, which the file format does not tell apart otherwise
    /// than by its 62 layers: there the scale goes by width over heads.
    fn attention_scale(&self, shape: &Shape) -> f32 {
        let divisor = match (self.family, shape.n_heads.len()) {
            ("gemma3", 62) => shape.width / (shape.n_heads[0] as usize).max(1),
            _ => shape.head_dim,
        };
        1.0 / (divisor as f32).sqrt()
    }

    fn rotary(&self, shape: &Shape) -> Result<Rotary> {
        let dim = match self.file.optional_u32(&self.key("rope.dimension_count"))? {
            Some(dim) => dim as usize,
            None => shape.head_dim,
        };
        if dim > 1024 {
            return Err(Error::model(
                self.file.path(),
                format!("{} is {dim}", self.key("rope.dimension_count")),
            ));
        }
        let base = self.f32_or("rope.freq_base", 10_000.0)?;
        let mut frequencies = inverse_frequencies(base, dim, self.scaling()?);
        self.divide_by_factors(&mut frequencies)?;
        // Llama's converter reorders the rows of queries and keys for adjacent pairs.
        let pairs = match self.family {
            "llama" => RopePairs::Adjacent,
            _ => RopePairs::Halves,
        };
        let rope = |inverse_frequencies| Rope {
            inverse_frequencies,
            attention_factor: 1.0,
            pairs,
        };
        let local = self.f32_or("rope.freq_base_swa", 10_000.0)?;
        Ok(Rotary {
            global: rope(frequencies),
            local: rope(inverse_frequencies(local, dim, Scaling::None)),
        })
    }

    fn scaling(&self) -> Result<Scaling> {
        let kind = self.file.optional_str(&self.key("rope.scaling.type"))?;
        match kind {
            None | Some("none") => Ok(Scaling::None),
            Some("linear") => Ok(Scaling::Linear {
                factor: self.file.required_f32(&self.key("rope.scaling.factor"))?,
            }),
            Some(other) => Err(Error::model(
                self.file.path(),
                format!("the RoPE scaling {other:?} is not supported (supported: none, linear)"),
            )),
        }
    }

    /// Llama 3.1 files carry the scaling as a tensor that divides the frequencies.
    fn divide_by_factors(&self, frequencies: &mut [f32]) -> Result<()> {
        let Some(tensor) = self.file.tensor("rope_freqs.weight") else {
            return Ok(());
        };
        let factors = super::weights::vector(self.file, &tensor)?;
        if factors.len() != frequencies.len() {
            return Err(Error::model(
                self.file.path(),
                format!(
                    "the tensor rope_freqs.weight holds {} factors for {} frequencies",
                    factors.len(),
                    frequencies.len()
                ),
            ));
        }
        for (frequency, factor) in frequencies.iter_mut().zip(factors) {
            *frequency /= factor;
        }
        Ok(())
    }
}

/// Gemma 3 alternates five windowed layers with one that sees everything; its files do not say.
const GEMMA3_PATTERN: usize = 6;

/// The rotations of layers with and without a window.
struct Rotary {
    global: Rope,
    local: Rope,
}
