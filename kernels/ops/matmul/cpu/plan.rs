//! How one product is cut into units, and the computation of a unit.

use bytemuck::Zeroable;

use super::Product;
use super::activations::{Encoding, Layout, Meta};
use super::kernel::{Call, Method};
use crate::backend::Dimensions;
use crate::cpu::matrix::Part;
use crate::cpu::memory::Shared;
use crate::cpu::tiles::{Expanded, GROUP, TILE_ROWS, step_bytes, step_cols};

/// Up to this many tokens one kernel call takes them all, mostly: nothing is gained by blocking.
const FEW_TOKENS: usize = 12;
/// Bytes of weights in a unit of few tokens: small enough to share, large enough to stream.
const STREAM_BYTES: usize = 32 << 10;
/// Bytes of weights, expanded or not, that stay in the second-level cache beside activations.
const CACHE_BYTES: usize = 384 << 10;
/// Units a worker should have at least, so that all end at about the same time.
const UNITS_PER_WORKER: usize = 4;

/// Units of few tokens that are worth taking over from another worker: 256 KB.
const STREAM_UNITS: u32 = 8;

/// Units below which a worker keeps what it has.
pub(super) fn least_steal(n_tokens: usize) -> u32 {
    if n_tokens <= FEW_TOKENS {
        STREAM_UNITS
    } else {
        1
    }
}

/// Activations packed in one encoding.
pub(super) struct Packed<'a> {
    pub(super) layout: Layout,
    pub(super) bytes: &'a [u8],
}

/// Where sums begin and go.
pub(super) struct Epilogue<'a> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) accumulate: bool,
    /// `[n_tokens, rows]`.
    pub(super) out: Shared<'a, f32>,
    pub(super) rows: usize,
}

impl<'a> Epilogue<'a> {
    pub(super) fn of(product: Product<'a>) -> Self {
        Self {
            bias: product.bias,
            accumulate: product.accumulate,
            rows: product.weight.rows(),
            out: Shared::new(product.out),
        }
    }
}

/// One part of the matrix and how it is computed.
pub(super) struct PartPlan<'a> {
    part: &'a Part,
    method: Method,
    packed: &'a Packed<'a>,
    /// Steps of a chunk of columns.
    chunk_steps: usize,
    /// Tiles of a unit.
    unit_tiles: usize,
    n_units: usize,
}

impl<'a> PartPlan<'a> {
    pub(super) fn new(
        part: &'a Part,
        method: Method,
        packed: &'a Packed<'a>,
        n_tokens: usize,
        n_workers: usize,
    ) -> Self {
        let (cols, bytes) = (step_cols(part.format), step_bytes(part.format));
        let n_steps = part.tile_bytes() / bytes;
        let few = n_tokens <= FEW_TOKENS;
        let chunk_steps = match method.expand {
            None if few => n_steps,
            _ => (method.chunk_cols / cols).clamp(1, n_steps),
        };
        let chunk_bytes = match method.expand {
            None => chunk_steps * bytes,
            Some(_) => chunk_steps * cols / GROUP * size_of::<Expanded>(),
        };
        let unit_tiles = if few {
            // Expanded, a tile stays in the first-level cache from one kernel to the next.
            method
                .expand
                .map_or(STREAM_BYTES / part.tile_bytes(), |_| 1)
        } else {
            let balanced = part.n_tiles() / (n_workers * UNITS_PER_WORKER);
            (CACHE_BYTES / chunk_bytes).min(balanced)
        };
        let unit_tiles = unit_tiles.max(1);
        let n_units = part.n_tiles().div_ceil(unit_tiles);
        PartPlan {
            part,
            method,
            packed,
            chunk_steps,
            unit_tiles,
            n_units,
        }
    }

    pub(super) fn n_units(&self) -> usize {
        self.n_units
    }

    /// Computes a unit: all tokens of its tiles.
    pub(super) fn compute(&self, unit: usize, to: &Epilogue<'_>, scratch: &mut Vec<Expanded>) {
        let first = unit * self.unit_tiles;
        let last = (first + self.unit_tiles).min(self.part.n_tiles());
        let step_bytes = step_bytes(self.part.format);
        let n_steps = self.part.tile_bytes() / step_bytes;
        for step in (0..n_steps).step_by(self.chunk_steps) {
            let n_chunk = self.chunk_steps.min(n_steps - step);
            let bytes = step * step_bytes..(step + n_chunk) * step_bytes;
            let tile = |tile: usize| &self.part.tile(tile)[bytes.clone()];
            let Some(expand) = self.method.expand else {
                let chunk = Chunk {
                    step,
                    n_steps: n_chunk,
                    step_cols: step_cols(self.part.format),
                };
                self.multiply(chunk, first..last, to, |index| tile(index).as_ptr());
                continue;
            };
            let groups_per_step = step_cols(self.part.format) / GROUP;
            let n_groups = n_chunk * groups_per_step;
            scratch.resize((last - first) * n_groups, Expanded::zeroed());
            for (index, groups) in (first..last).zip(scratch.chunks_exact_mut(n_groups)) {
                // SAFETY: the method is one for this machine; `groups` holds the chunk's groups.
                unsafe { expand(tile(index), groups) };
            }
            let chunk = Chunk {
                step: step * groups_per_step,
                n_steps: n_groups,
                step_cols: GROUP,
            };
            self.multiply(chunk, first..last, to, |index| {
                scratch[(index - first) * n_groups..].as_ptr().cast()
            });
        }
    }

    /// Multiplies a chunk of columns of some tiles, whose steps begin at `steps(tile)`, with all
    /// tokens, a block of tokens at a time: its activations stay close while tiles pass.
    fn multiply(
        &self,
        chunk: Chunk,
        tiles: std::ops::Range<usize>,
        to: &Epilogue<'_>,
        steps: impl Fn(usize) -> *const u8,
    ) {
        let layout = self.packed.layout;
        for panel in 0..layout.n_panels() {
            let width = layout.width(panel);
            let mut token = 0;
            while token < width {
                let block = block_size(width - token, self.method.kernels.len());
                let (acts, meta) = self.activations(panel, token, chunk);
                for tile in tiles.clone() {
                    let row = self.part.first_row + tile * TILE_ROWS;
                    let n_rows = (self.part.rows - tile * TILE_ROWS).min(TILE_ROWS);
                    let first = chunk.step == 0;
                    let bias = to
                        .bias
                        .filter(|_| first)
                        .map(|bias| &bias[row..row + n_rows]);
                    let start = (layout.first_token(panel) + token) * to.rows + row;
                    let call = Call {
                        steps: steps(tile),
                        n_steps: chunk.n_steps,
                        acts,
                        meta,
                        unit_stride: layout.unit_stride(panel),
                        out: to
                            .out
                            .pointer(start..start + (block - 1) * to.rows + n_rows),
                        out_stride: to.rows,
                        n_rows,
                        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
                        resume: to.accumulate || !first,
                    };
                    // SAFETY: the method is one for this machine. The chunk's steps lie in the
                    // tile, its units in the panel, the block's tokens too; each tile's rows of
                    // `out` belong to one unit, which one worker computes.
                    unsafe { self.method.kernels[block - 1](&call) };
                }
                token += block;
            }
        }
    }

    /// The packed activations of a token at a chunk's first column.
    fn activations(&self, panel: usize, token: usize, chunk: Chunk) -> (*const u8, *const Meta) {
        let Packed { layout, bytes } = self.packed;
        let unit = chunk.step * chunk.step_cols / layout.encoding.unit_cols();
        let start = layout.offset(panel) + unit * layout.unit_stride(panel);
        let unit = &bytes[start..];
        let value_bytes = layout.encoding.value_bytes();
        let values = unit[token * value_bytes..].as_ptr();
        let meta = match layout.encoding {
            Encoding::Int8 => {
                let metas = &unit[layout.width(panel) * value_bytes..];
                metas[token * size_of::<Meta>()..].as_ptr().cast()
            }
            Encoding::F32 | Encoding::Bf16 => std::ptr::dangling(),
        };
        (values, meta)
    }
}

/// A run of steps, the kernels' own: expanded ones where the method expands.
#[derive(Clone, Copy)]
struct Chunk {
    step: usize,
    n_steps: usize,
    step_cols: usize,
}

/// How many of `rest` tokens the next kernel takes: blocks of almost equal size.
fn block_size(rest: usize, largest: usize) -> usize {
    rest.div_ceil(rest.div_ceil(largest))
}
