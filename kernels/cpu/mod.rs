//! The fast CPU backend: a spin pool of threads and SIMD chosen at run time.
//!
//! Each operation's kernel stands with the operation (`ops/<op>/cpu.rs`); here is what they
//! share: threads ([`pool`]), instruction sets ([`isa`]), memory ([`memory`]) and the paged KV
//! cache ([`kv`]).

pub(crate) mod arena;
pub mod isa;
pub mod kv;
pub(crate) mod math;
pub mod matrix;
pub mod memory;
mod plan;
pub mod pool;
pub(crate) mod simd;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tiles;

use std::ops::Range;
use std::sync::Mutex;

use crate::backend::{
    ActivationRounding, Backend, CacheShape, KvRounding, KvShape, MatrixSource, RouteShape,
};
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
use crate::quant::Format;

pub use isa::Isa;
pub use kv::KvCache;
pub use matrix::Matrix;
pub use memory::Buffer;
pub use plan::plan;
pub use pool::Pool;

/// Elements of light work, as a norm does, below which a share is not worth another thread.
pub(crate) const SHARE: usize = 8192;

/// The CPU with threads and SIMD.
pub struct Cpu {
    pub(crate) pool: Pool,
    pub(crate) isa: Isa,
    /// The rotations of the last batch.
    pub(crate) turns: rope_append::cpu::TurnsCache,
    /// Where weights live.
    arena: arena::Arena,
    pub(crate) matmul_scratch: Mutex<matmul::cpu::Scratch>,
    pub(crate) samplers: sample::cpu::Samplers,
    pub(crate) matmul_intermediates: Mutex<matmul::cpu::Intermediates>,
}

impl Cpu {
    /// The CPU with `n_threads` threads and the best instructions it has.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0 threads, [`Error::Device`] if threads cannot be started.
    pub fn new(n_threads: usize) -> Result<Cpu> {
        Cpu::with_isa(n_threads, Isa::detect())
    }

    /// As [`Cpu::new`], with the instructions of `isa` only: the way to test the others on a
    /// machine that has more.
    ///
    /// # Errors
    /// As [`Cpu::new`]; [`Error::Parameter`] if the machine lacks `isa`.
    pub fn with_isa(n_threads: usize, isa: Isa) -> Result<Cpu> {
        if isa > Isa::detect() {
            let name = isa.name();
            return Err(Error::Parameter(format!("this CPU does not run {name}")));
        }
        Ok(Cpu {
            pool: Pool::new(n_threads)?,
            isa,
            turns: Default::default(),
            arena: Default::default(),
            matmul_scratch: Default::default(),
            samplers: Default::default(),
            matmul_intermediates: Default::default(),
        })
    }

    /// Threads that take part in an operation.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// The instructions in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Matrix = Matrix;
    type KvCache = KvCache;
    type Experts = Experts<Matrix>;
    type Routes = Routes;
    type Decoder = HostDecoder<Self>;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn buffer(&self, len: usize) -> Result<Buffer> {
        Buffer::zeroed(len)
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        Buffer::from_slice(values)
    }

    fn download(&self, buffer: &Buffer, range: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_download(buffer, &range, out.len())?;
        out.copy_from_slice(&buffer[range]);
        Ok(())
    }

    fn matrix(&self, parts: &[MatrixSource<'_>]) -> Result<Matrix> {
        Matrix::new(&self.arena, parts)
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
        kv::bytes(shape).unwrap_or(usize::MAX)
    }

    fn kv_rounding(&self) -> KvRounding {
        // A half is off by 2.1e-4 of a normal value, by numpy.
        KvRounding {
            keys: 2.1e-4,
            values: 2.1e-4,
            ..KvRounding::default()
        }
    }

    fn activation_rounding(&self, format: Format) -> ActivationRounding {
        match format {
            Format::F32 | Format::F16 | Format::F8E4M3 => ActivationRounding::NONE,
            Format::Bf16 => ActivationRounding::BF16,
            // A step is the largest of 32 values over 127, and the largest of these values 2.24
            // deviations in the mean: 2.24 / 127 / √12 of one.
            _ => ActivationRounding {
                deviation: 0.0051,
                reason: "activations are rounded to 8 bits in groups of 32",
            },
        }
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
        embed::cpu::run(self, op);
        Ok(())
    }

    fn rms_norm(&self, op: RmsNorm<'_, Self>) -> Result<()> {
        op.check()?;
        rms_norm::cpu::run(self, op);
        Ok(())
    }

    fn matmul(&self, op: Matmul<'_, Self>) -> Result<()> {
        op.check()?;
        matmul::cpu::matmul(self, op)
    }

    fn rope_append(&self, op: RopeAppend<'_, Self>) -> Result<()> {
        op.check()?;
        rope_append::cpu::run(self, op);
        Ok(())
    }

    fn attention(&self, op: Attention<'_, Self>) -> Result<()> {
        op.check()?;
        attention::cpu::run(self, op);
        Ok(())
    }

    fn gated(&self, op: Gated<'_, Self>) -> Result<()> {
        op.check()?;
        gated::cpu::run(self, op);
        Ok(())
    }

    fn moe_route(&self, op: MoeRoute<'_, Self>) -> Result<()> {
        op.check()?;
        moe_route::cpu::run(self, op);
        Ok(())
    }

    fn moe_matmul(&self, op: MoeMatmul<'_, Self>) -> Result<()> {
        op.check()?;
        moe_matmul::cpu::run(self, op)
    }

    fn moe_combine(&self, op: MoeCombine<'_, Self>) -> Result<()> {
        op.check()?;
        moe_combine::cpu::run(self, op);
        Ok(())
    }

    fn logits(&self, op: Logits<'_, Self>) -> Result<()> {
        op.check()?;
        logits::cpu::run(self, op)
    }

    fn sample(&self, op: Sample<'_, Self>) -> Result<Vec<Result<Sampled>>> {
        op.check()?;
        Ok(sample::cpu::run(self, op))
    }
}
