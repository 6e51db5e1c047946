//! The forward pass: written once, for every family and every backend.
//!
//! Buffers, per row of the batch:
//!
//! | buffer       | columns                                | holds                              |
//! |--------------|----------------------------------------|------------------------------------|
//! | `x`          | width                                  | the residual stream                |
//! | `normed`     | width                                  | input of the next matmul           |
//! | `qkv`        | (n_heads + 2 n_kv_heads) · head_dim    | queries, keys, values              |
//! | `attended`   | n_heads · head_dim                     | output of attention                |
//! | `branch`     | width                                  | a half's output before a post-norm |
//! | `gate_up`    | 2 · ff_width                           | both halves of the gated layer     |
//! | `inner`      | ff_width                               | their product                      |
//! | `logits`     | vocab (for [`LOGIT_ROWS`] rows)        | scores of the rows asked for       |

use onward_kernels::ops::attention::Attention;
use onward_kernels::ops::embed::Embed;
use onward_kernels::ops::gated::Gated;
use onward_kernels::ops::logits::Logits;
use onward_kernels::ops::matmul::Matmul;
use onward_kernels::ops::rms_norm::RmsNorm;
use onward_kernels::ops::rope_append::RopeAppend;
use onward_kernels::{Backend, Batch, KvShape};

use super::config::{FeedForward, LayerConfig, ModelConfig};
use super::weights::{LayerWeights, Weights};
use crate::error::Result;

/// Rows whose logits are computed at once: enough for the matmul to be one, few enough that a
/// vocabulary of 262144 takes 32 MB.
pub(crate) const LOGIT_ROWS: usize = 32;

/// A model on a backend, with the memory of one forward pass.
pub(crate) struct Model<B: Backend> {
    backend: B,
    config: ModelConfig,
    weights: Weights<B>,
    kv: B::KvCache,
    scratch: Scratch<B>,
    max_rows: usize,
    host_logits: Vec<f32>,
}

/// The buffers of the module's table.
struct Scratch<B: Backend> {
    x: B::Buffer,
    normed: B::Buffer,
    qkv: B::Buffer,
    attended: B::Buffer,
    branch: B::Buffer,
    gate_up: B::Buffer,
    inner: B::Buffer,
    logits: B::Buffer,
}

/// What the engine asks of a model whose backend it does not know.
pub(crate) trait Runner: Send {
    /// Runs the batch through all layers: its keys and values are in the cache afterwards, and
    /// [`Runner::logits`] can be asked for any of its rows.
    fn forward(&mut self, batch: &Batch) -> Result<()>;

    /// The logits `[rows.len(), vocab]` of rows of the last batch; at most [`LOGIT_ROWS`].
    fn logits(&mut self, rows: &[usize]) -> Result<&[f32]>;

    /// The most rows a batch may have.
    fn max_rows(&self) -> usize;
}

impl<B: Backend> Model<B> {
    /// Puts a model together for batches of up to `max_rows` rows and a cache of this shape.
    pub(crate) fn new(
        backend: B,
        config: ModelConfig,
        weights: Weights<B>,
        kv: &KvShape,
        max_rows: usize,
    ) -> Result<Self> {
        let rows = |columns: usize| backend.buffer(max_rows * columns);
        let scratch = Scratch {
            x: rows(config.width)?,
            normed: rows(config.width)?,
            qkv: rows(config.max_qkv_width())?,
            attended: rows(config.max_q_width())?,
            branch: rows(config.width)?,
            gate_up: rows(2 * config.max_feed_forward_width())?,
            inner: rows(config.max_feed_forward_width())?,
            logits: backend.buffer(LOGIT_ROWS * config.vocab_size)?,
        };
        Ok(Self {
            kv: backend.kv_cache(kv)?,
            scratch,
            max_rows,
            host_logits: Vec::new(),
            backend,
            config,
            weights,
        })
    }

    fn run(&mut self, batch: &Batch) -> Result<()> {
        let Self {
            backend,
            config,
            weights,
            kv,
            scratch,
            ..
        } = self;
        backend.embed(Embed {
            tokens: &batch.tokens,
            table: &weights.embedding,
            scale: config.embedding_scale,
            out: &mut scratch.x,
        })?;
        for (index, (layer, w)) in config.layers.iter().zip(&weights.layers).enumerate() {
            let block = Block {
                backend,
                layer,
                w,
                index,
                width: config.width,
                epsilon: config.norm_epsilon,
            };
            block.attention(batch, kv, scratch)?;
            block.feed_forward(batch.n_rows(), scratch)?;
        }
        backend.rms_norm(RmsNorm {
            x: &scratch.x,
            weight: &weights.output_norm,
            n_rows: batch.n_rows(),
            width: config.width,
            epsilon: config.norm_epsilon,
            accumulate: false,
            out: &mut scratch.normed,
        })?;
        Ok(())
    }
}

impl<B: Backend> Runner for Model<B> {
    fn forward(&mut self, batch: &Batch) -> Result<()> {
        self.run(batch)
    }

    fn logits(&mut self, rows: &[usize]) -> Result<&[f32]> {
        self.backend.logits(Logits {
            x: &self.scratch.normed,
            rows,
            weight: self
                .weights
                .output
                .as_ref()
                .unwrap_or(&self.weights.embedding),
            scale: self.config.head.scale,
            soft_cap: self.config.head.soft_cap,
            out: &mut self.scratch.logits,
        })?;
        let n = rows.len() * self.config.vocab_size;
        self.host_logits.resize(n, 0.0);
        self.backend
            .download(&self.scratch.logits, 0..n, &mut self.host_logits)?;
        Ok(&self.host_logits)
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }
}

/// One layer about to be run.
struct Block<'a, B: Backend> {
    backend: &'a B,
    layer: &'a LayerConfig,
    w: &'a LayerWeights<B>,
    index: usize,
    width: usize,
    epsilon: f32,
}

impl<B: Backend> Block<'_, B> {
    fn attention(&self, batch: &Batch, kv: &mut B::KvCache, s: &mut Scratch<B>) -> Result<()> {
        let (a, n_rows) = (&self.layer.attention, batch.n_rows());
        self.norm(n_rows, &s.x, &self.w.attention_norm, false, &mut s.normed)?;
        self.backend.matmul(Matmul {
            bias: self.w.qkv_bias.as_ref(),
            ..Matmul::new(&s.normed, &self.w.qkv, n_rows, &mut s.qkv)
        })?;
        self.backend.rope_append(RopeAppend {
            qkv: &mut s.qkv,
            batch,
            n_heads: a.n_heads,
            n_kv_heads: a.n_kv_heads,
            head_dim: a.head_dim,
            q_norm: self.w.q_norm.as_ref(),
            k_norm: self.w.k_norm.as_ref(),
            epsilon: self.epsilon,
            rope: a.rope.as_ref(),
            kv,
            layer: self.index,
        })?;
        self.backend.attention(Attention {
            qkv: &s.qkv,
            batch,
            kv,
            layer: self.index,
            n_heads: a.n_heads,
            n_kv_heads: a.n_kv_heads,
            head_dim: a.head_dim,
            scale: a.scale,
            soft_cap: a.soft_cap,
            mask: a.mask,
            out: &mut s.attended,
        })?;
        self.join(
            n_rows,
            Output {
                inner: &s.attended,
                weight: &self.w.attention_output,
                bias: self.w.attention_output_bias.as_ref(),
                post_norm: self.w.post_attention_norm.as_ref(),
            },
            &mut s.branch,
            &mut s.x,
        )
    }

    fn feed_forward(&self, n_rows: usize, s: &mut Scratch<B>) -> Result<()> {
        let FeedForward::Gated { width, activation } = self.layer.feed_forward;
        self.norm(
            n_rows,
            &s.x,
            &self.w.feed_forward_norm,
            false,
            &mut s.normed,
        )?;
        self.backend.matmul(Matmul::new(
            &s.normed,
            &self.w.gate_up,
            n_rows,
            &mut s.gate_up,
        ))?;
        self.backend.gated(Gated {
            gate_up: &s.gate_up,
            n_rows,
            width,
            activation,
            out: &mut s.inner,
        })?;
        self.join(
            n_rows,
            Output {
                inner: &s.inner,
                weight: &self.w.down,
                bias: None,
                post_norm: self.w.post_feed_forward_norm.as_ref(),
            },
            &mut s.branch,
            &mut s.x,
        )
    }

    /// Adds a half's output to the residual stream, by way of its post-norm if it has one.
    fn join(
        &self,
        n_rows: usize,
        output: Output<'_, B>,
        branch: &mut B::Buffer,
        x: &mut B::Buffer,
    ) -> Result<()> {
        let (accumulate, out) = match output.post_norm {
            None => (true, &mut *x),
            Some(_) => (false, &mut *branch),
        };
        self.backend.matmul(Matmul {
            bias: output.bias,
            accumulate,
            ..Matmul::new(output.inner, output.weight, n_rows, out)
        })?;
        match output.post_norm {
            None => Ok(()),
            Some(weight) => self.norm(n_rows, branch, weight, true, x),
        }
    }

    fn norm(
        &self,
        n_rows: usize,
        x: &B::Buffer,
        weight: &B::Buffer,
        accumulate: bool,
        out: &mut B::Buffer,
    ) -> Result<()> {
        self.backend.rms_norm(RmsNorm {
            x,
            weight,
            n_rows,
            width: self.width,
            epsilon: self.epsilon,
            accumulate,
            out,
        })?;
        Ok(())
    }
}

/// The last projection of a half and what follows it.
struct Output<'a, B: Backend> {
    inner: &'a B::Buffer,
    weight: &'a B::Matrix,
    bias: Option<&'a B::Buffer>,
    post_norm: Option<&'a B::Buffer>,
}
