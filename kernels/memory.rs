//! How much memory a model takes on a device, known before there is one.
//!
//! An engine describes the model ([`ModelShape`]); a backend knows its layouts and says what that
//! takes ([`MemoryPlan`]). Loading follows the plan: what a pass needs beside its operands is
//! allocated when the model is loaded, so nothing grows later.

use crate::backend::{KvShape, MatrixSource};
use crate::decode::DecodeShape;

/// Matrices that become one, and how they are multiplied.
#[derive(Clone, Debug)]
pub struct Stack<'a> {
    /// As [`Backend::matrix`](crate::Backend::matrix) takes them.
    pub sources: Vec<MatrixSource<'a>>,
    /// The most rows of activations that meet it in one product; 0 for a table that is only
    /// looked up.
    pub n_rows: usize,
    /// Whether the activations are normalised first.
    pub has_norm: bool,
    /// Whether its upper half is gated by its lower.
    pub is_gated: bool,
}

/// What takes memory of a model.
#[derive(Clone, Debug)]
pub struct ModelShape<'a> {
    /// All matrices.
    pub stacks: Vec<Stack<'a>>,
    /// Lengths of the vectors of `f32`: norms and biases.
    pub vectors: Vec<usize>,
    /// The rotary frequencies of each layer that has some.
    pub frequencies: Vec<&'a [f32]>,
    /// Query heads of each layer.
    pub n_heads: Vec<usize>,
    /// The most rows of a pass.
    pub max_rows: usize,
    /// Columns of all buffers of activations together.
    pub columns: usize,
    /// The cache.
    pub kv: KvShape,
    /// The sequences.
    pub decode: DecodeShape,
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, in the device's layout.
    pub weights: usize,
    /// Keys and values of every position of every sequence, and a spare page.
    pub kv_cache: usize,
    /// What sequences that are being decoded keep: logits, histories, the sampler's sums.
    pub decoder: usize,
    /// Activations of one pass.
    pub activations: usize,
    /// What kernels need beside their operands, at the most.
    pub scratch: usize,
    /// Weights on their way while the model is loaded, when only they and the weights are there.
    pub loading: usize,
    /// An allowance for recorded steps and for what the driver rounds up; not measured yet.
    pub graphs: usize,
    /// An allowance for the driver's context and the kernels' code, which are there before a model
    /// is loaded; not measured yet.
    pub context: usize,
}

impl MemoryPlan {
    /// Everything at its peak.
    pub fn total(&self) -> usize {
        self.beside_context().saturating_add(self.context)
    }

    /// What a device must have free that is open already.
    pub fn beside_context(&self) -> usize {
        self.allocated().saturating_add(self.graphs)
    }

    /// What the program itself allocates, at its peak.
    pub fn allocated(&self) -> usize {
        let loading = self.weights.saturating_add(self.loading);
        self.resident().max(loading)
    }

    /// What the program itself holds once the model is loaded.
    pub fn resident(&self) -> usize {
        [
            self.weights,
            self.kv_cache,
            self.decoder,
            self.activations,
            self.scratch,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl ModelShape<'_> {
    /// Bytes of all vectors.
    pub(crate) fn vector_bytes(&self) -> usize {
        self.vectors.iter().sum::<usize>() * size_of::<f32>()
    }

    /// Bytes of what a matmul passes on, where it is put together from operations: normalised
    /// activations, products before their gates, and what comes of those.
    pub(crate) fn intermediate_bytes(&self) -> usize {
        let most = |values: &dyn Fn(&Stack<'_>) -> usize| {
            let all = self
                .stacks
                .iter()
                .map(|stack| stack.n_rows.saturating_mul(values(stack)));
            all.max().unwrap_or(0)
        };
        let rows = |stack: &Stack<'_>| {
            stack
                .sources
                .iter()
                .map(|source| source.rows)
                .sum::<usize>()
        };
        let cols = |stack: &Stack<'_>| stack.sources.first().map_or(0, |source| source.cols);
        let normed = most(&|stack| if stack.has_norm { cols(stack) } else { 0 });
        let products = most(&|stack| if stack.is_gated { rows(stack) } else { 0 });
        (normed.saturating_add(products)).saturating_mul(size_of::<f32>())
    }

    /// Bytes of all activations.
    pub(crate) fn activation_bytes(&self) -> usize {
        (self.max_rows.saturating_mul(self.columns)).saturating_mul(size_of::<f32>())
    }
}
