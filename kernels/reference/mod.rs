//! The reference backend: plain f32 loops, the truth the other backends are judged by.
//!
//! Each operation stands with its formula (`ops/<op>/reference.rs`). What is computed follows
//! three rules: weights are exactly what their format says, activations are f32 throughout,
//! and every sum runs in an order that depends on its own length alone. Threads share the
//! outer loops, never a sum.

mod cache;
mod matrix;

use std::ops::Range;

use crate::backend::{Array, Backend, CacheShape, KvShape, MatrixSource, RouteShape};
use crate::decode::{DecodeShape, HostDecoder};
use crate::error::{Error, Result};
use crate::memory::{MemoryPlan, ModelShape};
use crate::ops::{
    attention::{self, Attention},
    check_download,
    embed::{self, Embed},
    gated::{self, Gated},
    logits::{self, Logits},
    matmul::{self, Matmul},
    moe_combine::{self, MoeCombine},
    moe_matmul::{self, Experts, MoeMatmul},
    moe_route::{self, MoeRoute, Routes},
    rms_norm::{self, RmsNorm},
    rope_append::{self, RopeAppend},
    sample::{self, Sample, Sampled},
};

pub use cache::KvCache;
pub use matrix::Matrix;

/// Lanes of [`dot`].
const LANES: usize = 16;

/// The truth the other backends are judged by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference {}

impl Reference {
    /// The reference backend; its outer loops run on rayon's threads.
    pub fn new() -> Self {
        Self {}
    }
}

/// The memory that a model takes here: weights as their file holds them, everything else in f32.
/// What an operation needs beside its operands it allocates for itself; the largest is what is
/// between a gated product and its gates.
pub fn plan(model: &ModelShape<'_>) -> MemoryPlan {
    let sources = model.stacks.iter().flat_map(|stack| &stack.sources);
    let weights: usize = sources.map(|source| source.data.len()).sum();
    MemoryPlan {
        weights: weights + model.vector_bytes(),
        kv_cache: KvCache::bytes(&model.kv),
        decoder: HostDecoder::<Reference>::bytes(&model.decode),
        activations: model.activation_bytes(),
        scratch: model.intermediate_bytes(),
        ..MemoryPlan::default()
    }
}

/// `Σ_i a[i] · b[i]` of equally long slices.
///
/// Lane `l` of 16 sums the products at `i ≡ l (mod 16)` in ascending order; then the lanes are
/// added in pairs half the lanes apart. One running sum would be as exact a definition, but the
/// compiler could not use vector instructions without changing its bits.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for l in 0..LANES {
            lanes[l] += a[l] * b[l];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += a * b;
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
    }
    lanes[0]
}

/// `len` zeros, which occupy memory only once they are written to; `what` names them in the
/// error.
fn zeros(len: usize, what: &'static str) -> Result<Vec<f32>> {
    bytemuck::allocation::try_zeroed_slice_box(len)
        .map(<[f32]>::into_vec)
        .map_err(|()| Error::OutOfMemory {
            what,
            bytes: len.saturating_mul(size_of::<f32>()),
        })
}

impl Array for Vec<f32> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl Backend for Reference {
    type Buffer = Vec<f32>;
    type Matrix = Matrix;
    type KvCache = KvCache;
    type Experts = Experts<Matrix>;
    type Routes = Routes;
    type Decoder = HostDecoder<Self>;

    fn name(&self) -> &'static str {
        "reference"
    }

    fn buffer(&self, len: usize) -> Result<Vec<f32>> {
        zeros(len, "an activation buffer")
    }

    fn upload(&self, values: &[f32]) -> Result<Vec<f32>> {
        let mut buffer = self.buffer(values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }

    fn download(&self, buffer: &Vec<f32>, range: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_download(buffer, &range, out.len())?;
        out.copy_from_slice(&buffer[range]);
        Ok(())
    }

    fn matrix(&self, parts: &[MatrixSource<'_>]) -> Result<Matrix> {
        Matrix::new(parts)
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> usize {
        matrix.bytes()
    }

    fn kv_cache(&self, shape: &KvShape) -> Result<KvCache> {
        KvCache::new(shape)
    }

    fn copy_pages(&self, kv: &mut KvCache, pages: &[(u32, u32)]) -> Result<()> {
        kv.shape().check_pages(pages)?;
        for &(from, to) in pages {
            kv.copy_page(from, to);
        }
        Ok(())
    }

    fn kv_bytes(&self, shape: &KvShape) -> usize {
        KvCache::bytes(shape)
    }

    fn plan(&self, model: &ModelShape<'_>) -> MemoryPlan {
        plan(model)
    }

    fn decoder(&self, shape: &DecodeShape) -> Result<HostDecoder<Self>> {
        HostDecoder::new(self, shape)
    }

    fn decoder_bytes(&self, shape: &DecodeShape) -> usize {
        HostDecoder::<Self>::bytes(shape)
    }

    fn experts(&self, experts: &[Vec<MatrixSource<'_>>]) -> Result<Experts<Matrix>> {
        Experts::new(experts, |parts| self.matrix(parts))
    }

    fn experts_bytes(&self, experts: &Experts<Matrix>) -> usize {
        experts.matrices.iter().map(Matrix::bytes).sum()
    }

    fn routes(&self, shape: &RouteShape) -> Result<Routes> {
        Routes::new(shape)
    }

    fn download_routes(&self, routes: &Routes) -> Result<Routes> {
        Ok(routes.clone())
    }

    fn embed(&self, op: Embed<'_, Self>) -> Result<()> {
        op.check()?;
        embed::reference::run(op);
        Ok(())
    }

    fn rms_norm(&self, op: RmsNorm<'_, Self>) -> Result<()> {
        op.check()?;
        rms_norm::reference::run(op);
        Ok(())
    }

    fn matmul(&self, op: Matmul<'_, Self>) -> Result<()> {
        op.check()?;
        matmul::reference::run(op);
        Ok(())
    }

    fn rope_append(&self, op: RopeAppend<'_, Self>) -> Result<()> {
        op.check()?;
        rope_append::reference::run(op);
        Ok(())
    }

    fn attention(&self, op: Attention<'_, Self>) -> Result<()> {
        op.check()?;
        attention::reference::run(op);
        Ok(())
    }

    fn gated(&self, op: Gated<'_, Self>) -> Result<()> {
        op.check()?;
        gated::reference::run(op);
        Ok(())
    }

    fn moe_route(&self, op: MoeRoute<'_, Self>) -> Result<()> {
        op.check()?;
        moe_route::reference::run(op);
        Ok(())
    }

    fn moe_matmul(&self, op: MoeMatmul<'_, Self>) -> Result<()> {
        op.check()?;
        moe_matmul::reference::run(op);
        Ok(())
    }

    fn moe_combine(&self, op: MoeCombine<'_, Self>) -> Result<()> {
        op.check()?;
        moe_combine::reference::run(op);
        Ok(())
    }

    fn logits(&self, op: Logits<'_, Self>) -> Result<()> {
        op.check()?;
        logits::reference::run(op);
        Ok(())
    }

    fn sample(&self, op: Sample<'_, Self>) -> Result<Vec<Result<Sampled>>> {
        op.check()?;
        Ok(sample::reference::run(op))
    }
}
