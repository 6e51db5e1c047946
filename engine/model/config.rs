//! A model family as data: everything the forward pass asks about a model.
//!
//! [`super::gguf`] and [`super::hub`] fill a [`ModelConfig`] from the two kinds of model files.
//! A family differs from another by values here, never by code in the forward pass.

use onward_kernels::ops::attention::Mask;
use onward_kernels::ops::gated::Activation;
use onward_kernels::ops::rope_append::Rope;

/// The shape of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family as its file names it, such as `gemma3`.
    pub family: String,
    /// The model's own name, where the file has one.
    pub name: Option<String>,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Features of the residual stream.
    pub width: usize,
    /// The longest sequence the model was trained for.
    pub n_ctx_train: usize,
    /// What token embeddings are multiplied by.
    pub embedding_scale: f32,
    /// Epsilon of every norm.
    pub norm_epsilon: f32,
    /// Added to every norm weight as the file holds it (1 for Gemma in Hugging Face files,
    /// whose formula is `1 + w`).
    pub norm_offset: f32,
    /// The layers, first to last.
    pub layers: Vec<LayerConfig>,
    /// The scores over the vocabulary.
    pub head: HeadConfig,
}

/// One transformer block.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerConfig {
    /// Attention.
    pub attention: AttentionConfig,
    /// The feed-forward half.
    pub feed_forward: FeedForward,
    /// Whether each half's output is normalised before it joins the residual stream
    /// (Gemma 2 and 3), beside the norm before it that every family here has.
    pub post_norms: bool,
}

/// Attention of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Elements a head.
    pub head_dim: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Bound of the scores.
    pub soft_cap: Option<f32>,
    /// Which positions a token sees.
    pub mask: Mask,
    /// Rotary embedding; `None` for a layer without positions.
    pub rope: Option<Rope>,
    /// An RMS norm over each query and key head.
    pub qk_norm: bool,
    /// Biases of the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias of the output projection.
    pub output_bias: bool,
}

impl AttentionConfig {
    /// Columns of the queries.
    pub fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Columns of the keys, and of the values.
    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Columns of queries, keys and values together.
    pub fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }
}

/// The feed-forward half of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// `down(activation(gate(x)) · up(x))`.
    Gated {
        /// Features of the inner layer.
        width: usize,
        /// The gate's function.
        activation: Activation,
    },
}

impl FeedForward {
    /// Features of the inner layer.
    pub fn width(&self) -> usize {
        match *self {
            Self::Gated { width, .. } => width,
        }
    }
}

/// From the last hidden state to scores over the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadConfig {
    /// Whether the head is the embedding table itself. GGUF files say so by having no head.
    pub tied: bool,
    /// What logits are multiplied by.
    pub scale: f32,
    /// Bound of the logits.
    pub soft_cap: Option<f32>,
}

impl ModelConfig {
    /// The largest number of columns that any layer's queries, keys and values take.
    pub(crate) fn max_qkv_width(&self) -> usize {
        self.max_over_layers(|layer| layer.attention.qkv_width())
    }

    /// The largest attention output.
    pub(crate) fn max_q_width(&self) -> usize {
        self.max_over_layers(|layer| layer.attention.q_width())
    }

    /// The largest inner layer.
    pub(crate) fn max_feed_forward_width(&self) -> usize {
        self.max_over_layers(|layer| layer.feed_forward.width())
    }

    fn max_over_layers(&self, f: impl Fn(&LayerConfig) -> usize) -> usize {
        self.layers.iter().map(f).max().unwrap_or(0)
    }
}

/// Limits beyond which a file's numbers are nonsense rather than a large model; they keep every
/// product of shapes far from overflow.
const MAX_LAYERS: usize = 1024;
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCAB: usize = 1 << 24;

impl ModelConfig {
    /// Refuses shapes that cannot belong together.
    ///
    /// # Errors
    /// A sentence without subject, to be put after the file's name.
    pub(crate) fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: usize, limit: usize| match value {
            0 => Err(format!("the {what} is 0")),
            v if v > limit => Err(format!("the {what} is {v}, beyond anything real")),
            _ => Ok(()),
        };
        within("vocabulary size", self.vocab_size, MAX_VOCAB)?;
        within("embedding width", self.width, MAX_WIDTH)?;
        within("context length", self.n_ctx_train, 1 << 30)?;
        within("layer count", self.layers.len(), MAX_LAYERS)?;
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon >= 0.0) {
            return Err(format!("the norm epsilon is {}", self.norm_epsilon));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer
                .check()
                .map_err(|detail| format!("in layer {index}, {detail}"))?;
        }
        Ok(())
    }
}

impl LayerConfig {
    fn check(&self) -> Result<(), String> {
        let a = &self.attention;
        for (what, value) in [
            ("head count", a.n_heads),
            ("key/value head count", a.n_kv_heads),
            ("head size", a.head_dim),
            ("feed-forward width", self.feed_forward.width()),
        ] {
            if value == 0 || value > MAX_WIDTH {
                return Err(format!("the {what} is {value}"));
            }
        }
        if !a.n_heads.is_multiple_of(a.n_kv_heads) {
            return Err(format!(
                "{} query heads cannot share {} key/value heads evenly",
                a.n_heads, a.n_kv_heads
            ));
        }
        if a.head_dim > 1024 || !a.head_dim.is_multiple_of(8) {
            return Err(format!(
                "the head size is {}; a multiple of 8 up to 1024 is supported",
                a.head_dim
            ));
        }
        if a.qkv_width() > MAX_WIDTH {
            return Err("queries, keys and values are beyond anything real".to_owned());
        }
        if let Mask::Window(0) = a.mask {
            return Err("the attention window is 0".to_owned());
        }
        let bounds = [Some(a.scale), a.soft_cap];
        if bounds
            .into_iter()
            .flatten()
            .any(|x| !(x.is_finite() && x > 0.0))
        {
            return Err("the attention scale or soft-cap is not a positive number".to_owned());
        }
        match &a.rope {
            Some(rope) if 2 * rope.inverse_frequencies.len() > a.head_dim => Err(format!(
                "{} rotary frequencies do not fit heads of {}",
                rope.inverse_frequencies.len(),
                a.head_dim
            )),
            Some(rope) if rope.inverse_frequencies.iter().any(|f| !f.is_finite()) => {
                Err("a rotary frequency is not a finite number".to_owned())
            }
            _ => Ok(()),
        }
    }
}
