//! How much memory a model needs, before it is loaded.

use onward_kernels::decode::DecodeShape;
use onward_kernels::{KvShape, PAGE_TOKENS};

use super::load::EngineOptions;
use crate::formats::ModelFile;
use crate::model::{ModelConfig, Room};

/// Rows whose logits are computed at once: enough for the matmul to be one, few enough that a
/// vocabulary of 262144 takes 32 MB.
pub(super) const LOGIT_ROWS: usize = 32;

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
        let kv = room(config, options).kv;
        let per_position: usize = kv.layers.iter().map(|(heads, dim)| 2 * heads * dim).sum();
        let values = kv.n_pages * PAGE_TOKENS * per_position;
        Self {
            weights,
            kv_cache: values * size_of::<half::f16>(),
            scratch: scratch_bytes(config, options),
        }
    }
}

/// What these options ask for beside the weights. The cache's last page is the decoder's spare
/// one.
pub(super) fn room(config: &ModelConfig, options: &EngineOptions) -> Room {
    let n_ctx = options.context(config);
    let n_pages = options.n_sequences * n_ctx.div_ceil(PAGE_TOKENS);
    Room {
        max_rows: options.chunk,
        kv: KvShape {
            n_pages: n_pages + 1,
            layers: config
                .layers
                .iter()
                .map(|layer| (layer.attention.n_kv_heads, layer.attention.head_dim))
                .collect(),
        },
        decode: DecodeShape {
            n_slots: options.n_sequences,
            n_logits: LOGIT_ROWS,
            vocab: config.vocab_size,
            n_ctx,
            spare_page: n_pages as u32,
        },
    }
}

/// The activations of [`crate::model`]'s forward pass.
fn scratch_bytes(config: &ModelConfig, options: &EngineOptions) -> usize {
    let columns = 3 * config.width
        + config.max_qkv_width()
        + config.max_q_width()
        + 3 * config.max_feed_forward_width();
    (options.chunk * columns + LOGIT_ROWS * config.vocab_size) * size_of::<f32>()
}
