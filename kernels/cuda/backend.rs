//! The CUDA backend: each operation's launches stand with the operation (`ops/<op>/cuda.rs`).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::abi::BatchArrays;
use super::array::{Buffer, DeviceArray};
use super::decode::CudaDecoder;
use super::device::Device;
use super::error::CudaError;
use super::experts::Experts;
use super::kv::{self, KvCache, KvType};
use super::matrix::Matrix;
use super::queue::Queue;
use super::staging::Staging;
use super::timing::StepClock;
use crate::backend::{
    ActivationRounding, Backend, CacheShape, KvRounding, KvShape, MatrixSource, RouteShape,
};
use crate::decode::DecodeShape;
use crate::error::Result;
use crate::memory::{MemoryPlan, ModelShape};
use crate::ops::moe_route::cuda::Routes;
use crate::ops::{
    attend::{self, Attend},
    attention::{self, Attention},
    check_download,
    embed::{self, Embed},
    gated::{self, Gated},
    logits::{self, Logits},
    matmul::{self, Matmul},
    moe_combine::{self, MoeCombine},
    moe_matmul::{self, MoeMatmul},
    moe_route::{self, MoeRoute},
    rms_norm::{self, RmsNorm},
    rope_append::{self, RopeAppend},
    sample::{self, Sample, Sampled},
};
use crate::quant::Format;

/// One GPU, all of whose work goes on one stream.
#[derive(Debug)]
pub struct Cuda {
    pub(crate) device: Device,
    queue: Mutex<Queue>,
    kv_type: KvType,
    pub(crate) sampling: sample::cuda::Kept,
    /// Locked before the queue, by whoever needs both.
    pub(crate) staging: Mutex<Option<Staging>>,
    hopper_formats: Vec<Format>,
    hopper_widths: Vec<usize>,
    uses_graphs: AtomicBool,
    uses_loop: AtomicBool,
    pub(crate) step_clock: StepClock,
}

/// Until it is dropped, the queue answers every batch by a decoder's.
pub(crate) struct HeldBatch<'a>(&'a Cuda);

impl Drop for HeldBatch<'_> {
    fn drop(&mut self) {
        self.0.queue().hold_batch(None);
    }
}

impl Cuda {
    /// Opens GPU `ordinal`, counted from 0.
    ///
    /// # Errors
    /// No driver, a driver older than the kernels, no such GPU, or what the driver says.
    pub fn open(ordinal: usize) -> std::result::Result<Self, CudaError> {
        Ok(Self {
            device: Device::open(ordinal)?,
            queue: Mutex::default(),
            kv_type: KvType::default(),
            sampling: Mutex::default(),
            staging: Mutex::default(),
            hopper_formats: Vec::new(),
            hopper_widths: Vec::new(),
            uses_graphs: AtomicBool::new(true),
            uses_loop: AtomicBool::new(true),
            step_clock: StepClock::default(),
        })
    }

    /// Has the caches that are made from now on store keys and values so; [`KvType::Bf16`] is
    /// what they do otherwise.
    #[must_use]
    pub fn with_kv(self, kv_type: KvType) -> Self {
        Self { kv_type, ..self }
    }

    /// Has steps of decoding launched kernel by kernel instead of recorded and repeated as CUDA
    /// graphs: the same launches, so the same tokens, but the host has more to do.
    #[must_use]
    pub fn without_graphs(self) -> Self {
        self.give_graphs_up();
        self
    }

    /// Whether steps of decoding are recorded.
    pub fn uses_graphs(&self) -> bool {
        self.uses_graphs.load(Ordering::Relaxed)
    }

    /// Has each step of decoding launched by the host, where the device would repeat steps by
    /// itself: the same launches, so the same tokens, but the host has to keep up.
    #[must_use]
    pub fn without_loop(self) -> Self {
        self.give_loop_up();
        self
    }

    /// Whether the device repeats steps of decoding by itself. It does until one that is recorded
    /// for that fails.
    pub fn uses_loop(&self) -> bool {
        self.uses_graphs() && self.uses_loop.load(Ordering::Relaxed)
    }

    /// What tells how long the device waits between steps of decoding.
    pub fn step_clock(&self) -> StepClock {
        self.step_clock.clone()
    }

    pub(crate) fn give_graphs_up(&self) {
        self.uses_graphs.store(false, Ordering::Relaxed);
    }

    pub(crate) fn give_loop_up(&self) {
        self.uses_loop.store(false, Ordering::Relaxed);
    }

    /// Answers every batch by `arrays` for as long as the result lives.
    pub(crate) fn hold_batch(&self, arrays: BatchArrays) -> HeldBatch<'_> {
        self.queue().hold_batch(Some(arrays));
        HeldBatch(self)
    }

    /// Tries the kernels that use Hopper's own instructions, and from then on uses those that give
    /// the very bits of the others here; on a GPU that is no Hopper, none. Not done by itself: the
    /// kernels have run on the emulated device alone, and one that fails on a GPU would take the
    /// program along.
    pub fn try_hopper(&mut self) {
        // They are compared with the others, which are used until then.
        self.hopper_formats.clear();
        self.hopper_widths.clear();
        self.hopper_formats = matmul::hopper::agreeing_formats(self);
        self.hopper_widths = attention::hopper::agreeing_widths(self);
    }

    /// The formats of weights that [`try_hopper`](Self::try_hopper) found kernels for.
    pub fn hopper_formats(&self) -> &[Format] {
        &self.hopper_formats
    }

    /// The stored widths of heads that [`try_hopper`](Self::try_hopper) found attention kernels for.
    pub fn hopper_widths(&self) -> &[usize] {
        &self.hopper_widths
    }

    pub(super) fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// The GPU.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The right to launch.
    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        // What a panic leaves behind is memory that nothing depends on.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Cuda {
    type Buffer = Buffer;
    type Matrix = Matrix;
    type KvCache = KvCache;
    type Experts = Experts;
    type Routes = Routes;
    type Decoder = CudaDecoder;

    fn name(&self) -> &'static str {
        "cuda"
    }

    fn buffer(&self, len: usize) -> Result<Buffer> {
        DeviceArray::zeroed(&self.device, "activations", len).map(Buffer)
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        DeviceArray::upload(&self.device, "values", values).map(Buffer)
    }

    fn download(&self, buffer: &Buffer, range: Range<usize>, out: &mut [f32]) -> Result<()> {
        check_download(buffer, &range, out.len())?;
        buffer.0.read(&self.device, range.start, out)
    }

    fn matrix(&self, parts: &[MatrixSource<'_>]) -> Result<Matrix> {
        Matrix::new(self, parts, &mut |_| ())
    }

    fn matrix_from(
        &self,
        parts: &[MatrixSource<'_>],
        taken: &mut dyn FnMut(&[u8]),
    ) -> Result<Matrix> {
        Matrix::new(self, parts, taken)
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> usize {
        matrix.bytes()
    }

    fn activation_rounding(&self, format: Format) -> ActivationRounding {
        match format {
            Format::F32 => ActivationRounding::NONE,
            Format::Bf16 => ActivationRounding::BF16,
            _ => ActivationRounding::F16,
        }
    }

    fn kv_cache(&self, shape: &KvShape) -> Result<KvCache> {
        KvCache::new(&self.device, shape, self.kv_type)
    }

    fn copy_pages(&self, kv: &mut KvCache, pages: &[(u32, u32)]) -> Result<()> {
        kv.shape().check_pages(pages)?;
        for &(from, to) in pages {
            kv.copy_page(&self.device, from, to)?;
        }
        Ok(())
    }

    fn kv_bytes(&self, shape: &KvShape) -> usize {
        kv::bytes(shape, self.kv_type).unwrap_or(usize::MAX)
    }

    fn kv_rounding(&self) -> KvRounding {
        self.kv_type.rounding()
    }

    fn plan(&self, model: &ModelShape<'_>) -> MemoryPlan {
        self.plan_of(model)
    }

    fn free_bytes(&self) -> Result<Option<usize>> {
        self.free().map(Some)
    }

    fn reserve(&self, model: &ModelShape<'_>) -> Result<()> {
        self.take_room(model)
    }

    fn decoder(&self, shape: &DecodeShape) -> Result<CudaDecoder> {
        CudaDecoder::new(self, shape)
    }

    fn decoder_bytes(&self, shape: &DecodeShape) -> usize {
        CudaDecoder::bytes(shape)
    }

    fn experts(&self, experts: &[Vec<MatrixSource<'_>>]) -> Result<Experts> {
        Experts::new(self, experts)
    }

    fn experts_bytes(&self, experts: &Experts) -> usize {
        experts.bytes()
    }

    fn routes(&self, shape: &RouteShape) -> Result<Routes> {
        Routes::new(&self.device, shape)
    }

    fn download_routes(&self, routes: &Routes) -> Result<moe_route::Routes> {
        routes.download(&self.device)
    }

    fn embed(&self, op: Embed<'_, Self>) -> Result<()> {
        op.check()?;
        embed::cuda::run(self, op)
    }

    fn rms_norm(&self, op: RmsNorm<'_, Self>) -> Result<()> {
        op.check()?;
        rms_norm::cuda::run(self, op)
    }

    fn matmul(&self, op: Matmul<'_, Self>) -> Result<()> {
        op.check()?;
        matmul::cuda::run(self, op)
    }

    fn rope_append(&self, op: RopeAppend<'_, Self>) -> Result<()> {
        op.check()?;
        rope_append::cuda::run(self, op)
    }

    fn attention(&self, op: Attention<'_, Self>) -> Result<()> {
        op.check()?;
        attention::cuda::run(self, op)
    }

    fn attend(&self, mut op: Attend<'_, Self>) -> Result<()> {
        op.check()?;
        attend::cuda::run(self, op)
    }

    fn gated(&self, op: Gated<'_, Self>) -> Result<()> {
        op.check()?;
        gated::cuda::run(self, op)
    }

    fn moe_route(&self, op: MoeRoute<'_, Self>) -> Result<()> {
        op.check()?;
        moe_route::cuda::run(self, op)
    }

    fn moe_matmul(&self, op: MoeMatmul<'_, Self>) -> Result<()> {
        op.check()?;
        moe_matmul::cuda::run(self, op)
    }

    fn moe_combine(&self, op: MoeCombine<'_, Self>) -> Result<()> {
        op.check()?;
        moe_combine::cuda::run(self, op)
    }

    fn logits(&self, op: Logits<'_, Self>) -> Result<()> {
        op.check()?;
        logits::cuda::run(self, op)
    }

    fn sample(&self, op: Sample<'_, Self>) -> Result<Vec<Result<Sampled>>> {
        op.check()?;
        sample::cuda::run(self, op)
    }
}
