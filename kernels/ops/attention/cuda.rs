//! `attention` on a GPU. Spans of few rows are decoded: a launch with a block for each split of
//! the context. The other spans have a launch of their own. A row's bits do not depend on which
//! way it goes. The launch for spans of one row does `rope_append` as well where it is asked to.

pub(crate) mod shared;

use cudarc::driver::DeviceRepr;

use super::{Attention, Mask, OP, hopper};
use crate::backend::{PAGE_TOKENS, Span};
use crate::cuda::Cuda;
use crate::cuda::abi::{
    ATTENTION_DECODE_ROWS, ATTENTION_LINES, ATTENTION_SPLIT_PAGES, AttentionParams, KV_PAGE_TOKENS,
    RopeNorm,
};
use crate::cuda::decode::{padded_rows, stride};
use crate::cuda::kv::KvType;
use crate::cuda::queue::{Launch, Queue};
use crate::decode::DecodeShape;
use crate::error::Result;
use crate::ops::attend::Attend;
use crate::ops::{narrow, shape_error};

/// `log2 e`: scores are exponents of two.
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// What stands for a window or block that no sequence fills.
const UNBOUNDED: usize = 1 << 31;

// SAFETY: plain data, its layout checked against the kernels' compiler when it was generated.
unsafe impl DeviceRepr for AttentionParams {}

/// How a kernel cuts its work: warps of different lines, and warps that share lines.
#[derive(Clone, Copy, Debug)]
struct Cut {
    line_warps: u32,
    column_warps: u32,
}

/// A kernel for spans of many rows, and what a block of it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefill {
    pub(super) module: &'static str,
    pub(super) name: &'static str,
    pub(super) lines: u32,
    pub(super) threads: u32,
    pub(super) shared_bytes: u32,
}

/// The kernels for heads of one width, by how keys and values are stored.
struct Kernels {
    width: usize,
    /// Of up to 16 lines a block.
    narrow: [&'static str; 2],
    wide: [&'static str; 2],
    wide_cut: Cut,
    prefill: [&'static str; 2],
    prefill_cut: Cut,
}

const NARROW_CUT: Cut = Cut {
    line_warps: 1,
    column_warps: 4,
};

macro_rules! kernels {
    ($($width:literal: $wide:expr, $prefill:expr;)*) => {
        [$(Kernels {
            width: $width,
            narrow: [
                concat!("attention_decode_", $width, "_bf16"),
                concat!("attention_decode_", $width, "_int8"),
            ],
            wide: [
                concat!("attention_decode_", $width, "_bf16_wide"),
                concat!("attention_decode_", $width, "_int8_wide"),
            ],
            wide_cut: Cut { line_warps: $wide.0, column_warps: $wide.1 },
            prefill: [
                concat!("attention_prefill_", $width, "_bf16"),
                concat!("attention_prefill_", $width, "_int8"),
            ],
            prefill_cut: Cut { line_warps: $prefill.0, column_warps: $prefill.1 },
        }),*]
    };
}

/// The lists in the kernels' sources.
const KERNELS: [Kernels; 7] = kernels! {
    32: (4, 2), (4, 1);
    64: (4, 2), (4, 1);
    80: (4, 2), (4, 1);
    96: (4, 2), (4, 1);
    128: (4, 2), (4, 1);
    192: (2, 4), (2, 2);
    256: (2, 4), (2, 2);
};

impl Cut {
    fn lines(self) -> u32 {
        ATTENTION_LINES * self.line_warps
    }

    fn threads(self) -> u32 {
        32 * self.line_warps * self.column_warps
    }

    /// Dynamic shared memory, as `Shape` and `Memory` in `tile.cuh` count it.
    fn shared_bytes(self, width: u32, element: KvType) -> u32 {
        let rows = 2 * KV_PAGE_TOKENS;
        let tile = rows * width * 2;
        let stages = match width {
            0..=64 => 4,
            65..=192 => 3,
            _ => 2,
        };
        let pages = match element {
            KvType::Bf16 => stages * tile,
            KvType::Int8 => stages * rows * (width + 4) + tile,
        };
        let scores = match self.column_warps {
            1 => 0,
            _ => self.lines() * (KV_PAGE_TOKENS + 8) * 4,
        };
        self.lines() * width * 2 + pages + scores
    }
}

impl Kernels {
    fn prefill(&self, element: KvType) -> Prefill {
        let cut = self.prefill_cut;
        Prefill {
            module: "attention_prefill",
            name: self.prefill[element as usize],
            lines: cut.lines(),
            threads: cut.threads(),
            // Widths are at most 256.
            shared_bytes: cut.shared_bytes(self.width as u32, element),
        }
    }
}

pub(crate) fn run(cuda: &Cuda, op: Attention<'_, Cuda>) -> Result<()> {
    let width = op.kv.width(op.layer);
    let is_tried = cuda.hopper_widths().contains(&width) && op.kv.element() == KvType::Bf16;
    run_with(cuda, op, is_tried.then(|| hopper::kernel(width)).flatten())
}

/// Launches attention, of the spans of many rows by `prefill` if there is one; else by the kernel
/// that every GPU has.
pub(super) fn run_with(
    cuda: &Cuda,
    op: Attention<'_, Cuda>,
    prefill: Option<Prefill>,
) -> Result<()> {
    let kernels = kernels(&op)?;
    let mut queue = cuda.queue();
    let mut params = params(cuda, &mut queue, &op)?;
    let (decoded, others): (Vec<&Span>, Vec<&Span>) =
        (op.batch.spans.iter()).partition(|span| span.rows.len() <= ATTENTION_DECODE_ROWS as usize);
    if decoded.iter().any(|span| !span.rows.is_empty()) {
        decode(cuda, &mut queue, &op, kernels, &mut params)?;
    }
    let kernel = prefill.unwrap_or_else(|| kernels.prefill(op.kv.element()));
    let group = op.n_heads / op.n_kv_heads;
    let tiles = |span: &&Span| (span.rows.len() * group).div_ceil(kernel.lines as usize);
    let launch = Launch {
        module: kernel.module,
        kernel: kernel.name,
        grid: (
            narrow(OP, others.iter().map(tiles).sum())?,
            params.n_kv_heads,
            1,
        ),
        threads: kernel.threads,
        shared_bytes: kernel.shared_bytes,
        params,
    };
    // SAFETY: the arrays are as long as the shape says, the pages are in the cache, `out` is
    // borrowed alone, and block and shared memory are what the kernel's shape asks for.
    unsafe { queue.launch(&cuda.device, &launch) }
}

/// `rope_append` and `attention` of spans of one row, no row of which sees what another one stores,
/// in one launch.
pub(crate) fn append_and_decode(cuda: &Cuda, mut op: Attend<'_, Cuda>) -> Result<()> {
    let mut queue = cuda.queue();
    let rope = RopeNorm::new(cuda, &mut queue, &op.rope_append())?;
    let op = op.attention();
    let mut params = params(cuda, &mut queue, &op)?;
    params.rope = rope;
    params.appends = 1;
    decode(cuda, &mut queue, &op, kernels(&op)?, &mut params)
}

fn kernels(op: &Attention<'_, Cuda>) -> Result<&'static Kernels> {
    let width = op.kv.width(op.layer);
    let kernels = KERNELS.iter().find(|kernels| kernels.width == width);
    kernels.ok_or_else(|| shape_error(OP, format!("heads of {width} elements have no kernels")))
}

fn params(cuda: &Cuda, queue: &mut Queue, op: &Attention<'_, Cuda>) -> Result<AttentionParams> {
    let (window, block) = match op.mask {
        Mask::Causal => (UNBOUNDED, 1),
        Mask::Window(n) => (n, 1),
        Mask::BlockCausal(n) => (UNBOUNDED, n),
    };
    let (inner, outer) = match op.soft_cap {
        Some(cap) => (op.scale / cap, cap * LOG2_E),
        None => (0.0, op.scale * LOG2_E),
    };
    Ok(AttentionParams {
        qkv: op.qkv.0.pointer(),
        out: op.out.0.pointer(),
        batch: queue.batch(&cuda.device, op.batch)?,
        kv: op.kv.layer(op.layer),
        n_heads: narrow(OP, op.n_heads)?,
        n_kv_heads: narrow(OP, op.n_kv_heads)?,
        window: window.min(UNBOUNDED) as u32,
        block: block.min(UNBOUNDED) as u32,
        inner,
        outer,
        sums: std::ptr::null_mut(),
        totals: std::ptr::null_mut(),
        n_done: std::ptr::null_mut(),
        decode_rows: 0,
        line_tiles: 1,
        appends: 0,
        rope: RopeNorm::NONE,
    })
}

/// The name of the scratch memory for what splits leave for the last of them.
pub(crate) const STATES: &str = "attention states";

/// Bytes of the states of splits: for each of `n_heads`, a sum of `width` values and two totals.
pub(crate) fn state_bytes(width: usize, n_states: usize, n_heads: usize) -> usize {
    (width + 2)
        .saturating_mul(n_states)
        .saturating_mul(n_heads)
        .saturating_mul(size_of::<f32>())
}

/// States of a head at the most: of a batch of up to `max_rows` rows in which every sequence has
/// its whole context, and of a decoder's step.
pub(crate) fn n_states(decode: &DecodeShape, max_rows: usize) -> usize {
    let n_pages = decode.n_ctx.div_ceil(PAGE_TOKENS);
    let of_spans = |n_spans: usize, n_pages: usize| match n_pages > SPLIT_PAGES {
        true => n_spans.saturating_mul(n_pages) / SPLIT_PAGES + n_spans,
        false => 0,
    };
    let of_batch = |rows: usize| {
        let n_spans = decode.n_slots.min((max_rows + 1).saturating_sub(rows));
        rows * of_spans(n_spans, n_pages)
    };
    let most = (1..=ATTENTION_DECODE_ROWS as usize).map(of_batch).max();
    let step = of_spans(padded_rows(decode.n_slots), stride(n_pages));
    most.unwrap_or(0).max(step)
}

/// The name of the counters of splits that have left a state.
pub(crate) const DONE: &str = "splits of attention";

/// Counters for a batch of `n_spans` sequences: its groups of blocks are at most as many as there
/// are heads, for 16 lines of a key head are rows of its query heads, and a span has up to 16.
fn n_groups(n_spans: usize, n_heads: usize) -> usize {
    n_spans.saturating_mul(n_heads)
}

/// The most that [`DONE`] takes: of all sequences at once.
pub(crate) fn n_counters(decode: &DecodeShape, n_heads: usize) -> usize {
    match stride(decode.n_ctx.div_ceil(PAGE_TOKENS)) > SPLIT_PAGES {
        true => n_groups(padded_rows(decode.n_slots), n_heads),
        false => 0,
    }
}

const SPLIT_PAGES: usize = ATTENTION_SPLIT_PAGES as usize;

/// Launches what the spans of few rows need. The grid follows the numbers of rows and the lengths of
/// block tables, so it is the same from step to step.
fn decode(
    cuda: &Cuda,
    queue: &mut Queue,
    op: &Attention<'_, Cuda>,
    kernels: &Kernels,
    params: &mut AttentionParams,
) -> Result<()> {
    let spans = &op.batch.spans;
    let rows = spans.iter().map(|span| span.rows.len());
    let rows = rows.filter(|&n| n <= ATTENTION_DECODE_ROWS as usize).max();
    let pages = spans.iter().map(|span| span.block_table.len());
    let n_splits = pages.clone().max().unwrap_or(0).div_ceil(SPLIT_PAGES);
    params.decode_rows = narrow(OP, rows.unwrap_or(0))?;

    let lines = narrow(OP, op.n_heads / op.n_kv_heads)?.saturating_mul(params.decode_rows);
    let (names, cut) = match lines <= NARROW_CUT.lines() {
        true => (kernels.narrow, NARROW_CUT),
        false => (kernels.wide, kernels.wide_cut),
    };
    params.line_tiles = lines.div_ceil(cut.lines());
    let groups = params.n_kv_heads.saturating_mul(params.line_tiles);
    if n_splits > 1 {
        let slots = pages.sum::<usize>() / SPLIT_PAGES + spans.len();
        let states = slots * rows.unwrap_or(0);
        let bytes = state_bytes(kernels.width, states, op.n_heads);
        let base = queue.scratch(&cuda.device, STATES, bytes)?;
        params.sums = base.cast();
        let sums = states * op.n_heads * kernels.width * size_of::<f32>();
        params.totals = base.wrapping_add(sums).cast();
        let n_groups = n_groups(spans.len(), op.n_heads);
        params.n_done = queue.counters(&cuda.device, DONE, n_groups)?;
    }
    let launch = Launch {
        module: "attention_decode",
        kernel: names[op.kv.element() as usize],
        grid: (narrow(OP, n_splits)?, groups, narrow(OP, spans.len())?),
        threads: cut.threads(),
        shared_bytes: cut.shared_bytes(params.kv.width, op.kv.element()),
        params: *params,
    };
    // SAFETY: as for the launch in `run`; the scratch has a state for every row, head and split
    // of every span, and a counter for every group of blocks.
    unsafe { queue.launch(&cuda.device, &launch) }
}
