//! How much memory a model needs, before it is loaded.

use onward_kernels::{KvShape, PAGE_TOKENS};

use super::load::EngineOptions;
use crate::formats::ModelFile;
use crate::model::{LOGIT_ROWS, ModelConfig};

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights, at the precision of their file.
    pub weights: usize,
    /// Keys and values of every position of every sequence, when all are used.
    pub kv_cache: usize,
    /// Activations of one forward pass.
    pub scratch: usize,
}

impl MemoryUse {
    /// Everything together.
    pub fn total(&self) -> usize {
        self.weights + self.kv_cache + self.scratch
    }

    /// What the file at hand will take with these options on the CPU, whose cache holds 16-bit
    /// numbers.
    pub fn estimate(file: &ModelFile, config: &ModelConfig, options: &EngineOptions) -> Self {
        let source = file.tensors();
        let weights = source
            .names()
            .filter_map(|name| source.tensor(name))
            .map(|tensor| tensor.data.len())
            .sum();
        let kv = kv_shape(config, options);
        let per_position: usize = kv.layers.iter().map(|(heads, dim)| 2 * heads * dim).sum();
        let values = kv.n_pages * PAGE_TOKENS * per_position;
        Self {
            weights,
            kv_cache: values * size_of::<half::f16>(),
            scratch: scratch_bytes(config, options),
        }
    }
}

/// The cache that these options ask for.
pub(super) fn kv_shape(config: &ModelConfig, options: &EngineOptions) -> KvShape {
    let per_sequence = options.context(config).div_ceil(PAGE_TOKENS);
    KvShape {
        n_pages: options.n_sequences * per_sequence,
        layers: config
            .layers
            .iter()
            .map(|layer| (layer.attention.n_kv_heads, layer.attention.head_dim))
            .collect(),
    }
}

/// The activations of [`crate::model`]'s forward pass.
pub(super) fn scratch_bytes(config: &ModelConfig, options: &EngineOptions) -> usize {
    let columns = 3 * config.width
        + config.max_qkv_width()
        + config.max_q_width()
        + 3 * config.max_feed_forward_width();
    (options.chunk * columns + LOGIT_ROWS * config.vocab_size) * size_of::<f32>()
}
