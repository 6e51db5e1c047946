//! The one interface between a model and what computes it.
//!
//! A method per operation; arguments are the structs of [`crate::ops`], whose fields are
//! named. Buffers are passed in: an operation never allocates what the caller can see. Shapes
//! are checked once, before dispatch, by the argument struct's own `check`.
//!
//! All activations are row-major `f32`, one row a token. A row's result never depends on which
//! other rows stand beside it: the same sequence gives the same bits alone, in a batch, whole
//! or in chunks, with any number of threads.

use std::ops::Range;

use crate::decode::{DecodeShape, Decoder};
use crate::error::{Error, Result};
use crate::memory::{MemoryPlan, ModelShape};
use crate::ops::{
    attend::{self, Attend},
    attention::Attention,
    embed::Embed,
    gated::Gated,
    logits::Logits,
    matmul::Matmul,
    moe_combine::MoeCombine,
    moe_matmul::MoeMatmul,
    moe_route::{self, MoeRoute},
    rms_norm::RmsNorm,
    rope_append::RopeAppend,
    sample::{Sample, Sampled},
};
use crate::quant::{self, Format};

/// Tokens in one page of the KV cache.
pub const PAGE_TOKENS: usize = 32;

/// A weight matrix as its file holds it: `rows` rows of `cols` weights, each row a whole number
/// of the format's blocks.
#[derive(Clone, Copy, Debug)]
pub struct MatrixSource<'a> {
    /// The tensor's name, for errors.
    pub name: &'a str,
    /// How a row's weights are encoded.
    pub format: Format,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// `rows * format.row_bytes(cols)` bytes.
    pub data: &'a [u8],
}

impl MatrixSource<'_> {
    /// Looks at a piece of the data, whole blocks, for what is no number. Every backend does so
    /// with all of them while it takes a matrix over, when they are read in any case.
    ///
    /// # Errors
    /// [`Error::Weight`] for scales that are infinite or NaN and for NaN in FP8. What F32, F16 and
    /// BF16 hold is computed with as it is, and shows in the logits.
    pub(crate) fn check_weights(&self, piece: &[u8]) -> Result<()> {
        match quant::flaw(self.format, piece) {
            None => Ok(()),
            Some(flaw) => Err(Error::Weight {
                tensor: self.name.into(),
                detail: format!("its {} data hold {flaw}", self.format),
            }),
        }
    }

    /// `(rows, cols)` of `parts` stacked, after a check that they can be.
    ///
    /// # Errors
    /// [`Error::Weight`] for a part whose data is not `rows` rows of `cols` weights, whose
    /// `cols` differ from the first's; [`Error::Parameter`] for no parts at all.
    pub fn stacked(parts: &[Self]) -> Result<(usize, usize)> {
        let cols = parts.first().map_or(0, |part| part.cols);
        let mut rows = 0_usize;
        for part in parts {
            let bytes = part.format.row_bytes(part.cols);
            let bytes = bytes.and_then(|bytes| bytes.checked_mul(part.rows));
            if bytes != Some(part.data.len()) || part.rows == 0 || part.cols != cols || cols == 0 {
                return Err(Error::Weight {
                    tensor: part.name.into(),
                    detail: format!(
                        "{} bytes are not [{}, {}] weights in {} over {cols} inputs",
                        part.data.len(),
                        part.rows,
                        part.cols,
                        part.format
                    ),
                });
            }
            rows = rows.saturating_add(part.rows);
        }
        if rows == 0 {
            let detail = "a matrix needs at least one part";
            return Err(Error::Parameter(detail.into()));
        }
        Ok((rows, cols))
    }
}

/// The KV cache to make room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Pages of [`PAGE_TOKENS`] tokens; a page holds keys and values of every layer.
    pub n_pages: usize,
    /// `(n_kv_heads, head_dim)` of each layer.
    pub layers: Vec<(usize, usize)>,
}

impl KvShape {
    /// Checks that a cache of this shape has all these pages.
    ///
    /// # Errors
    /// [`Error::Parameter`] that names the first it has not.
    pub(crate) fn check_pages(&self, pages: &[(u32, u32)]) -> Result<()> {
        let n_pages = self.n_pages;
        let mut numbers = pages.iter().flat_map(|&(from, to)| [from, to]);
        match numbers.find(|&page| page as usize >= n_pages) {
            Some(page) => Err(Error::Parameter(format!(
                "there is no page {page} in a cache of {n_pages}"
            ))),
            None => Ok(()),
        }
    }
}

/// Consecutive rows of a [`Batch`] that belong to one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The rows of the batch.
    pub rows: Range<usize>,
    /// The position in its sequence of the first of them.
    pub position: usize,
    /// The pages of the sequence from position 0 on; entry `p / PAGE_TOKENS` holds position `p`.
    pub block_table: Vec<u32>,
}

/// The tokens of one forward pass and where each stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// One token id a row.
    pub tokens: Vec<u32>,
    /// One position a row.
    pub positions: Vec<u32>,
    /// The sequences, in row order, covering every row once.
    pub spans: Vec<Span>,
}

impl Batch {
    /// Rows in the batch.
    pub fn n_rows(&self) -> usize {
        self.tokens.len()
    }

    /// Adds `tokens` of the sequence with pages `block_table`, the first at `position`.
    pub fn push(&mut self, tokens: &[u32], position: usize, block_table: &[u32]) {
        let first = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions
            .extend((0..tokens.len()).map(|i| (position + i) as u32));
        self.spans.push(Span {
            rows: first..first + tokens.len(),
            position,
            block_table: block_table.to_vec(),
        });
    }

    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.spans.clear();
    }
}

/// What a shape check asks of an array on a device.
#[expect(
    clippy::len_without_is_empty,
    reason = "an empty array is of no interest here"
)]
pub trait Array {
    /// Values in the array.
    fn len(&self) -> usize;
}

/// What a shape check asks of a weight matrix on a device.
pub trait Dimensions {
    /// Output features, all stacked parts together.
    fn rows(&self) -> usize;
    /// Input features.
    fn cols(&self) -> usize;
}

/// What a shape check asks of a KV cache on a device.
pub trait CacheShape {
    /// The shape the cache was made with.
    fn shape(&self) -> &KvShape;
}

/// What a backend rounds on the way through attention: the standard deviation of each rounding,
/// over the magnitude of what is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KvRounding {
    /// Queries.
    pub queries: f32,
    /// Stored keys.
    pub keys: f32,
    /// Weights of the values, which the softmax gives.
    pub weights: f32,
    /// Stored values.
    pub values: f32,
}

impl KvRounding {
    /// The deviation of attention's outputs over their magnitude, where scores deviate by
    /// `scores`: an error of a score is one of its weight.
    pub fn deviation(&self, scores: f32) -> f32 {
        let score = scores * self.queries.hypot(self.keys);
        score.hypot(self.weights).hypot(self.values)
    }
}

/// How a backend rounds the activations of a product: what that leaves of the exact result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActivationRounding {
    /// The standard deviation of an activation's rounding over that of the activation, and so of
    /// a product's error over the product's magnitude.
    pub deviation: f32,
    /// Where it comes from.
    pub reason: &'static str,
}

impl ActivationRounding {
    /// None, but for the order of the sums.
    pub const NONE: Self = Self {
        deviation: 1e-6,
        reason: "sums of f32 products in another order",
    };
    /// To bf16: 2^-8 at most; 0.00166 of the deviation of normal values, by numpy.
    pub const BF16: Self = Self {
        deviation: 0.0017,
        reason: "activations are rounded to bf16",
    };
    /// To f16 under a power of two for each token: an eighth of what bf16 rounds, since there are
    /// three more bits.
    pub const F16: Self = Self {
        deviation: 2.1e-4,
        reason: "activations are rounded to f16",
    };
}

/// The shape of the routes of rows through a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteShape {
    /// Rows that there is room for.
    pub n_rows: usize,
    /// Experts.
    pub n_experts: usize,
    /// Experts that a row goes to.
    pub top_k: usize,
}

/// What a shape check asks of routes on a device.
pub trait RoutesArray {
    /// The shape the routes were made with.
    fn shape(&self) -> &RouteShape;
}

/// What a shape check asks of the matrices of experts on a device.
pub trait ExpertStack {
    /// Experts.
    fn n_experts(&self) -> usize;
    /// Output features of an expert, all stacked parts together.
    fn rows(&self) -> usize;
    /// Input features of an expert.
    fn cols(&self) -> usize;
}

/// A device that holds weights and runs the operations of a model.
pub trait Backend: Send + Sync + 'static {
    /// An array of `f32` on the device.
    type Buffer: Array + Send + Sync;
    /// One or more weight matrices over the same input, stacked along their rows.
    type Matrix: Dimensions + Send + Sync;
    /// The pages of keys and values of all layers.
    type KvCache: CacheShape + Send + Sync;
    /// For each expert of a mixture, matrices as in `Matrix`, of the same shape for all.
    type Experts: ExpertStack + Send + Sync;
    /// Which experts the rows of a batch go to.
    type Routes: RoutesArray + Send + Sync;

    /// Sequences that are decoded together.
    type Decoder: Decoder<Self>;

    /// The device as `--device` names it.
    fn name(&self) -> &'static str;

    /// A zeroed array of `len` values.
    fn buffer(&self, len: usize) -> Result<Self::Buffer>;

    /// An array holding `values`.
    fn upload(&self, values: &[f32]) -> Result<Self::Buffer>;

    /// Copies `range` of `buffer` into `out`, which is as long.
    fn download(&self, buffer: &Self::Buffer, range: Range<usize>, out: &mut [f32]) -> Result<()>;

    /// Takes matrices of equal `cols` over, stacked in the order given: output row `r` of the
    /// second part is row `parts[0].rows + r` of the whole. Formats may differ.
    ///
    /// # Errors
    /// [`Error::Weight`] for data of another length than the shape's, and for blocks that hold no
    /// numbers: a scale that is infinite or NaN, or NaN in FP8. [`Error::OutOfMemory`].
    fn matrix(&self, parts: &[MatrixSource<'_>]) -> Result<Self::Matrix>;

    /// As [`matrix`](Self::matrix); `taken` hears of each piece of the sources' data, in order, once
    /// it is not looked at any more.
    fn matrix_from(
        &self,
        parts: &[MatrixSource<'_>],
        taken: &mut dyn FnMut(&[u8]),
    ) -> Result<Self::Matrix> {
        let matrix = self.matrix(parts)?;
        for part in parts {
            taken(part.data);
        }
        Ok(matrix)
    }

    /// Bytes that the matrix occupies on the device.
    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize;

    /// Makes an empty KV cache.
    fn kv_cache(&self, shape: &KvShape) -> Result<Self::KvCache>;

    /// Bytes that a cache of this shape occupies.
    fn kv_bytes(&self, shape: &KvShape) -> usize;

    /// Copies whole pages, keys and values of every layer: one after the other, each `(from, to)`.
    fn copy_pages(&self, kv: &mut Self::KvCache, pages: &[(u32, u32)]) -> Result<()>;

    /// Makes a decoder of no sequences.
    fn decoder(&self, shape: &DecodeShape) -> Result<Self::Decoder>;

    /// Bytes that a decoder of this shape occupies.
    fn decoder_bytes(&self, shape: &DecodeShape) -> usize;

    /// What a model of this shape takes on the device.
    fn plan(&self, model: &ModelShape<'_>) -> MemoryPlan;

    /// What the device has free; `None` where memory is the operating system's to give, which it
    /// does as it is used.
    fn free_bytes(&self) -> Result<Option<usize>> {
        Ok(None)
    }

    /// Allocates what passes of a model that is loaded need beside their operands.
    fn reserve(&self, model: &ModelShape<'_>) -> Result<()> {
        let _ = model;
        Ok(())
    }

    /// What attention over the cache rounds; nothing unless the backend says so.
    fn kv_rounding(&self) -> KvRounding {
        KvRounding::default()
    }

    /// How activations are rounded that meet weights of `format`.
    fn activation_rounding(&self, format: Format) -> ActivationRounding {
        let _ = format;
        ActivationRounding::NONE
    }

    /// Takes the matrices of experts over: for each expert its parts, stacked as in
    /// [`matrix`](Self::matrix). Every expert has the same parts, of the same formats.
    fn experts(&self, experts: &[Vec<MatrixSource<'_>>]) -> Result<Self::Experts>;

    /// Bytes that the experts occupy on the device.
    fn experts_bytes(&self, experts: &Self::Experts) -> usize;

    /// Makes routes for rows that are yet to come.
    fn routes(&self, shape: &RouteShape) -> Result<Self::Routes>;

    /// Copies routes to the host.
    fn download_routes(&self, routes: &Self::Routes) -> Result<moe_route::Routes>;

    /// Rows of the embedding table for the tokens of a batch.
    fn embed(&self, op: Embed<'_, Self>) -> Result<()>;
    /// Root-mean-square normalisation of each row.
    fn rms_norm(&self, op: RmsNorm<'_, Self>) -> Result<()>;
    /// `out = x · Wᵀ` with bias and residual.
    fn matmul(&self, op: Matmul<'_, Self>) -> Result<()>;
    /// Normalises and rotates queries and keys, and writes keys and values to their pages.
    fn rope_append(&self, op: RopeAppend<'_, Self>) -> Result<()>;
    /// Causal attention of each row over its sequence's pages.
    fn attention(&self, op: Attention<'_, Self>) -> Result<()>;
    /// [`rope_append`](Self::rope_append), then [`attention`](Self::attention), with their bits.
    fn attend(&self, op: Attend<'_, Self>) -> Result<()> {
        attend::in_turn(self, op)
    }
    /// `activation(gate) * up`.
    fn gated(&self, op: Gated<'_, Self>) -> Result<()>;
    /// Chooses the experts of each row.
    fn moe_route(&self, op: MoeRoute<'_, Self>) -> Result<()>;
    /// Each row times the matrices of its experts.
    fn moe_matmul(&self, op: MoeMatmul<'_, Self>) -> Result<()>;
    /// The weighted sum of what a row's experts made of it.
    fn moe_combine(&self, op: MoeCombine<'_, Self>) -> Result<()>;
    /// Logits of chosen rows.
    fn logits(&self, op: Logits<'_, Self>) -> Result<()>;
    /// The next token of each row of logits, or why there is none.
    fn sample(&self, op: Sample<'_, Self>) -> Result<Vec<Result<Sampled>>>;
}
