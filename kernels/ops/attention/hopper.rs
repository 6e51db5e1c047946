//! `attention` of many rows on Hopper (`hopper.cuh`), for the widths of heads whose kernels have
//! shown on the very GPU that they compute the bits of the others.

use super::cuda::{Prefill, run_with};
use super::{Attention, Mask};
use crate::backend::{Backend, Batch, KvShape, PAGE_TOKENS};
use crate::cuda::abi::{
    ATTENTION_HOPPER_BARRIER_BYTES, ATTENTION_HOPPER_STAGES, ATTENTION_HOPPER_THREADS,
};
use crate::cuda::{Cuda, KvCache, KvType};
use crate::error::Result;
use crate::ops::matmul::hopper::{CAPABILITY, is_embedded, noise, told};
use crate::ops::rope_append::RopeAppend;

const MODULE: &str = "attention_hopper";

/// Widths that have kernels, and the lines of a block: the list in `attention_hopper.cu`.
const KERNELS: [(usize, &str, u32); 4] = [
    (64, "attention_64_hopper", 128),
    (96, "attention_96_hopper", 128),
    (128, "attention_128_hopper", 128),
    (256, "attention_256_hopper", 64),
];

/// The kernel for stored heads of `width` elements of bf16.
pub(super) fn kernel(width: usize) -> Option<Prefill> {
    let &(_, name, lines) = KERNELS.iter().find(|kernel| kernel.0 == width)?;
    // Widths are at most 256.
    let row_bytes = 2 * width as u32;
    let page_bytes = 2 * PAGE_TOKENS as u32 * row_bytes;
    Some(Prefill {
        module: MODULE,
        name,
        lines,
        threads: ATTENTION_HOPPER_THREADS,
        shared_bytes: ATTENTION_HOPPER_BARRIER_BYTES
            + lines * row_bytes
            + ATTENTION_HOPPER_STAGES * page_bytes,
    })
}

/// All of them.
pub(super) fn kernels() -> impl Iterator<Item = Prefill> {
    KERNELS.iter().filter_map(|kernel| self::kernel(kernel.0))
}

/// The widths of heads whose Hopper kernels may be used on this GPU: on one that is no Hopper,
/// none; on one that is, those that give the very bits of the kernels for all GPUs. What fails is
/// left out: the other kernels do the same work.
pub(crate) fn agreeing_widths(cuda: &Cuda) -> Vec<usize> {
    if cuda.device().gpu().compute_capability != CAPABILITY || !is_embedded(MODULE) {
        return Vec::new();
    }
    let agrees = |width: &usize| {
        let what = format!("attention of heads of {width}");
        told(
            &what,
            &Check::new(cuda, *width).and_then(|mut check| check.bits_agree()),
        )
    };
    let widths = KERNELS.iter().map(|kernel| kernel.0);
    widths.filter(agrees).collect()
}

/// Noise to compare the kernels with: a chunk that begins in the middle of a page and a split,
/// after pages out of order, whose lines do not fill the last block.
struct Check<'a> {
    cuda: &'a Cuda,
    width: usize,
    kv: KvCache,
    batch: Batch,
    qkv: <Cuda as Backend>::Buffer,
}

impl<'a> Check<'a> {
    const N_HEADS: usize = 6;
    const N_KV_HEADS: usize = 2;
    const CACHED: usize = 250;
    const NEW: usize = 77;

    fn new(cuda: &'a Cuda, width: usize) -> Result<Self> {
        let n_pages = (Self::CACHED + Self::NEW).div_ceil(PAGE_TOKENS);
        let shape = KvShape {
            n_pages,
            layers: vec![(Self::N_KV_HEADS, width)],
        };
        let mut kv = KvCache::new(&cuda.device, &shape, KvType::Bf16)?;
        let table: Vec<u32> = (0..n_pages as u32).rev().collect();
        let mut batch = Batch::default();
        let mut qkv = cuda.buffer(0)?;
        for (position, n) in [(0, Self::CACHED), (Self::CACHED, Self::NEW)] {
            batch.clear();
            batch.push(&vec![0; n], position, &table);
            qkv = cuda.upload(&noise(n * (Self::N_HEADS + 2 * Self::N_KV_HEADS) * width))?;
            cuda.rope_append(RopeAppend {
                qkv: &mut qkv,
                batch: &batch,
                n_heads: Self::N_HEADS,
                n_kv_heads: Self::N_KV_HEADS,
                head_dim: width,
                q_norm: None,
                k_norm: None,
                epsilon: 0.0,
                rope: None,
                kv: &mut kv,
                layer: 0,
            })?;
        }
        Ok(Self {
            cuda,
            width,
            kv,
            batch,
            qkv,
        })
    }

    fn bits_agree(&mut self) -> Result<bool> {
        for (mask, soft_cap) in [(Mask::Causal, None), (Mask::Window(40), Some(2.0))] {
            let others = self.run(None, mask, soft_cap)?;
            if self.run(kernel(self.width), mask, soft_cap)? != others {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bits of a kernel's outputs.
    fn run(
        &mut self,
        prefill: Option<Prefill>,
        mask: Mask,
        soft_cap: Option<f32>,
    ) -> Result<Vec<u32>> {
        let len = Self::NEW * Self::N_HEADS * self.width;
        let mut out = self.cuda.buffer(len)?;
        let op = Attention {
            qkv: &self.qkv,
            batch: &self.batch,
            kv: &self.kv,
            layer: 0,
            n_heads: Self::N_HEADS,
            n_kv_heads: Self::N_KV_HEADS,
            head_dim: self.width,
            // Scores differ by so much that references move.
            scale: 12.0 / (self.width as f32).sqrt(),
            soft_cap,
            mask,
            out: &mut out,
        };
        run_with(self.cuda, op, prefill)?;
        let mut values = vec![0.0; len];
        self.cuda.download(&out, 0..len, &mut values)?;
        Ok(values.into_iter().map(f32::to_bits).collect())
    }
}
