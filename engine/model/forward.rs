//! The forward pass: written once, for every family and every backend.
//!
//! Buffers, per row of the batch:
//!
//! | buffer       | columns                                | holds                              |
//! |--------------|----------------------------------------|------------------------------------|
//! | `x`          | width                                  | the residual stream                |
//! | `qkv`        | (n_heads + 2 n_kv_heads) · head_dim    | queries, keys, values              |
//! | `attended`   | n_heads · head_dim                     | output of attention                |
//! | `branch`     | width                                  | a half's output before a post-norm |
//! | `inner`      | ff_width                               | gates times values                 |
//! | `normed`     | width                                  | input of the output head           |
//!
//! The norms before a half, its gate and its residual are parts of its matmuls. Logits lie with
//! the decoder, which draws from them.

use onward_kernels::decode::{DecodeShape, Decoder, SampleStart, StepRow};
use onward_kernels::ops::attend::Attend;
use onward_kernels::ops::embed::Embed;
use onward_kernels::ops::logits::Logits;
use onward_kernels::ops::matmul::{Matmul, Norm};
use onward_kernels::ops::rms_norm::RmsNorm;
use onward_kernels::ops::sample::Sampled;
use onward_kernels::{Backend, Batch, KvShape, Result};

use super::config::{FeedForward, LayerConfig, ModelConfig};
use super::weights::{LayerWeights, Weights};

/// A model on a backend, with the memory of one forward pass.
pub(crate) struct Model<B: Backend> {
    backend: B,
    network: Network<B>,
    decoder: B::Decoder,
    host_rows: Vec<f32>,
}

/// Weights, cache and buffers: what a forward pass goes through.
struct Network<B: Backend> {
    config: ModelConfig,
    weights: Weights<B>,
    kv: B::KvCache,
    scratch: Scratch<B>,
}

/// The buffers of the module's table.
struct Scratch<B: Backend> {
    x: B::Buffer,
    qkv: B::Buffer,
    attended: B::Buffer,
    branch: B::Buffer,
    inner: B::Buffer,
    normed: B::Buffer,
}

/// How much a model is to hold beside its weights.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// The most rows of a forward pass.
    pub(crate) max_rows: usize,
    /// The cache.
    pub(crate) kv: KvShape,
    /// The sequences.
    pub(crate) decode: DecodeShape,
}

/// What the engine asks of a model whose backend it does not know.
pub(crate) trait Runner: Send {
    /// Runs the batch through all layers: its keys and values are in the cache afterwards, and
    /// the logits of any of its rows can be asked for or drawn from.
    fn forward(&mut self, batch: &Batch) -> Result<()>;

    /// The logits `[rows.len(), vocab]` of rows of the last batch; at most
    /// [`DecodeShape::n_logits`].
    fn logits(&mut self, rows: &[usize]) -> Result<&[f32]>;

    /// The hidden states `[n_rows, width]` behind the last norm, of all rows of the last batch,
    /// which had `n_rows`.
    fn hidden(&mut self, n_rows: usize) -> Result<&[f32]>;

    /// [`Backend::copy_pages`].
    fn copy_pages(&mut self, pages: &[(u32, u32)]) -> Result<()>;

    /// Draws for each of `slots` from the logits of a row of the last batch.
    fn draw(&mut self, rows: &[usize], slots: &[usize]) -> Result<()>;

    /// [`Decoder::start`].
    fn start(&mut self, slot: usize, start: &SampleStart<'_>) -> Result<()>;

    /// [`Decoder::set_mask`].
    fn set_mask(&mut self, slot: usize, allowed: &[u32]) -> Result<()>;

    /// [`Decoder::set_rows`].
    fn set_rows(&mut self, rows: &[StepRow<'_>]) -> Result<()>;

    /// [`Decoder::grow`].
    fn grow(&mut self, row: usize, pages: &[u32]) -> Result<bool>;

    /// [`Decoder::steps`].
    fn steps(&mut self, n: usize) -> Result<usize>;

    /// [`Decoder::run_ahead`].
    fn run_ahead(&self) -> usize;

    /// [`Decoder::halt`].
    fn halt(&mut self) -> Result<()>;

    /// [`Decoder::take`].
    fn take(&mut self, slot: usize) -> Result<Option<Result<Sampled>>>;
}

impl<B: Backend> Model<B> {
    /// Puts a model together.
    pub(crate) fn new(
        backend: B,
        config: ModelConfig,
        weights: Weights<B>,
        room: &Room,
    ) -> Result<Self> {
        let rows = |columns: usize| backend.buffer(room.max_rows * columns);
        let scratch = Scratch {
            x: rows(config.width)?,
            qkv: rows(config.max_qkv_width())?,
            attended: rows(config.max_q_width())?,
            branch: rows(config.width)?,
            inner: rows(config.max_feed_forward_width())?,
            normed: rows(config.width)?,
        };
        Ok(Self {
            decoder: backend.decoder(&room.decode)?,
            network: Network {
                kv: backend.kv_cache(&room.kv)?,
                scratch,
                config,
                weights,
            },
            host_rows: Vec::new(),
            backend,
        })
    }
}

impl<B: Backend> Network<B> {
    /// All layers, and the norm behind them.
    fn forward(&mut self, backend: &B, batch: &Batch) -> Result<()> {
        let Self {
            config,
            weights,
            kv,
            scratch,
        } = self;
        backend.embed(Embed {
            batch,
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
        })
    }

    /// The logits of rows of the last batch.
    fn head(&self, backend: &B, rows: &[usize], out: &mut B::Buffer) -> Result<()> {
        let head = self.weights.output.as_ref();
        backend.logits(Logits {
            x: &self.scratch.normed,
            rows,
            weight: head.unwrap_or(&self.weights.embedding),
            scale: self.config.head.scale,
            soft_cap: self.config.head.soft_cap,
            out,
        })
    }
}

impl<B: Backend> Runner for Model<B> {
    fn forward(&mut self, batch: &Batch) -> Result<()> {
        self.network.forward(&self.backend, batch)
    }

    fn logits(&mut self, rows: &[usize]) -> Result<&[f32]> {
        let out = self.decoder.logits();
        self.network.head(&self.backend, rows, out)?;
        let n = rows.len() * self.network.config.vocab_size;
        self.host_rows.resize(n, 0.0);
        self.backend.download(out, 0..n, &mut self.host_rows)?;
        Ok(&self.host_rows)
    }

    fn hidden(&mut self, n_rows: usize) -> Result<&[f32]> {
        let n = n_rows * self.network.config.width;
        self.host_rows.resize(n, 0.0);
        let normed = &self.network.scratch.normed;
        (self.backend).download(normed, 0..n, &mut self.host_rows)?;
        Ok(&self.host_rows)
    }

    fn copy_pages(&mut self, pages: &[(u32, u32)]) -> Result<()> {
        self.backend.copy_pages(&mut self.network.kv, pages)
    }

    fn draw(&mut self, rows: &[usize], slots: &[usize]) -> Result<()> {
        let out = self.decoder.logits();
        self.network.head(&self.backend, rows, out)?;
        self.decoder.draw(&self.backend, slots)
    }

    fn start(&mut self, slot: usize, start: &SampleStart<'_>) -> Result<()> {
        self.decoder.start(&self.backend, slot, start)
    }

    fn set_mask(&mut self, slot: usize, allowed: &[u32]) -> Result<()> {
        self.decoder.set_mask(&self.backend, slot, allowed)
    }

    fn set_rows(&mut self, rows: &[StepRow<'_>]) -> Result<()> {
        self.decoder.set_rows(&self.backend, rows)
    }

    fn grow(&mut self, row: usize, pages: &[u32]) -> Result<bool> {
        self.decoder.grow(&self.backend, row, pages)
    }

    fn steps(&mut self, n: usize) -> Result<usize> {
        let Self {
            backend,
            network,
            decoder,
            ..
        } = self;
        decoder.steps(backend, n, &mut |batch, logits| {
            network.forward(backend, batch)?;
            let rows: Vec<usize> = (0..batch.n_rows()).collect();
            network.head(backend, &rows, logits)
        })
    }

    fn run_ahead(&self) -> usize {
        self.decoder.run_ahead()
    }

    fn halt(&mut self) -> Result<()> {
        self.decoder.halt(&self.backend)
    }

    fn take(&mut self, slot: usize) -> Result<Option<Result<Sampled>>> {
        self.decoder.take(&self.backend, slot)
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
        self.backend.matmul(Matmul {
            norm: self.norm(&self.w.attention_norm),
            bias: self.w.qkv_bias.as_ref(),
            ..Matmul::new(&s.x, &self.w.qkv, n_rows, &mut s.qkv)
        })?;
        self.backend.attend(Attend {
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
        let FeedForward::Gated { activation, .. } = self.layer.feed_forward;
        self.backend.matmul(Matmul {
            norm: self.norm(&self.w.feed_forward_norm),
            gate: Some(activation),
            ..Matmul::new(&s.x, &self.w.gate_up, n_rows, &mut s.inner)
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
            Some(weight) => self.backend.rms_norm(RmsNorm {
                x: branch,
                weight,
                n_rows,
                width: self.width,
                epsilon: self.epsilon,
                accumulate: true,
                out: x,
            }),
        }
    }

    /// The norm before a half.
    fn norm<'a>(&self, weight: &'a B::Buffer) -> Option<Norm<'a, B>> {
        Some(Norm {
            weight,
            epsilon: self.epsilon,
        })
    }
}

/// The last projection of a half and what follows it.
struct Output<'a, B: Backend> {
    inner: &'a B::Buffer,
    weight: &'a B::Matrix,
    bias: Option<&'a B::Buffer>,
    post_norm: Option<&'a B::Buffer>,
}
