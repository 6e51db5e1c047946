//! Weight matrices on a GPU: tiles in the order in which the tensor core takes them.
//!
//! A file's blocks go over in chunks through two pinned buffers in turn, and the kernels of
//! `retile.cu` put them in their places; `tiles.cuh` draws the layouts. Stacked matrices of one
//! format become one part where the first fills its last tile. F32 stays as it is, row by row.

use std::sync::{MutexGuard, PoisonError};

use cudarc::driver::DeviceRepr;

use super::abi::{
    MATMUL_MAX_SLICES, MATMUL_STEP_COLS, MATMUL_THREADS, MATMUL_TILE_ROWS, MATMUL_WARPS,
    MatmulWeight, RetileParams,
};
use super::array::DeviceArray;
use super::backend::Cuda;
use super::layout::{Tiling, tiling};
use super::queue::Launch;
use super::staging::Staging;
use crate::backend::{Dimensions, MatrixSource};
use crate::error::Result;
use crate::ops::narrow;
use crate::quant::Format;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for RetileParams {}

/// The name in errors.
const OP: &str = "matrix";

/// Tiles that a launch should have warps for: with fewer, several warps share a tile's columns.
const WANTED_WARPS: u32 = 2048;

/// Steps that a slice has at least.
const LEAST_STEPS: u32 = 2;

/// Matrices over the same input, stacked along their rows.
#[derive(Debug)]
pub struct Matrix {
    parts: Vec<Part>,
    rows: usize,
    cols: usize,
}

/// Rows of one format.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) format: Format,
    /// The part's first row in the whole.
    pub(crate) first_row: u32,
    pub(crate) n_rows: u32,
    pub(crate) n_steps: u32,
    /// Integers, then scales; of F32 the rows.
    bytes: DeviceArray<u8>,
    /// Where the scales begin.
    scales_at: usize,
}

impl Part {
    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The integers, or the rows of F32.
    pub(crate) fn quants(&self) -> *const u8 {
        self.bytes.pointer()
    }

    /// The scales.
    pub(crate) fn scales(&self) -> *const u8 {
        self.bytes.pointer().wrapping_add(self.scales_at)
    }

    pub(super) fn n_tiles(&self) -> u32 {
        self.n_rows.div_ceil(MATMUL_TILE_ROWS)
    }

    /// The part as kernels take it, and its longest slice in steps.
    pub(crate) fn weight(&self, tiling: &Tiling) -> (MatmulWeight, u32) {
        let slices = Slices::new(self.n_tiles(), self.n_steps, tiling);
        let weight = MatmulWeight {
            quants: self.quants(),
            scales: self.scales(),
            n_rows: self.n_rows,
            n_tiles: self.n_tiles(),
            n_steps: self.n_steps,
            slice_bits: slices.bits,
            slice_starts: slices.starts,
        };
        (weight, slices.longest)
    }
}

/// How the sum over a matrix's columns is cut.
pub(crate) struct Slices {
    /// The logarithm of their number.
    pub(crate) bits: u32,
    /// The first step of each, then the end.
    starts: [u32; MATMUL_MAX_SLICES as usize + 1],
    /// Steps of the longest.
    pub(crate) longest: u32,
}

impl Slices {
    /// Those of a matrix of `n_tiles` tiles, each of `n_steps` steps; whole records all of them.
    pub(crate) fn new(n_tiles: u32, n_steps: u32, tiling: &Tiling) -> Self {
        let n_records = n_steps / tiling.record_steps;
        let bits = slice_bits(n_tiles, n_steps).min(n_records.ilog2());
        let n_slices = 1 << bits;
        let mut starts = [n_steps; MATMUL_MAX_SLICES as usize + 1];
        for (slice, start) in (0..n_slices).zip(&mut starts) {
            *start = slice * n_records / n_slices * tiling.record_steps;
        }
        Self {
            bits,
            starts,
            // The last slice is the longest.
            longest: n_steps - starts[n_slices as usize - 1],
        }
    }
}

/// The logarithm of how many slices the sum over the columns is cut into: enough to keep a GPU
/// busy. By the shape alone, for it decides about the bits of the sum.
fn slice_bits(n_tiles: u32, n_steps: u32) -> u32 {
    let wanted = WANTED_WARPS.div_ceil(n_tiles).next_power_of_two();
    let possible = (n_steps / LEAST_STEPS).max(1);
    wanted.min(MATMUL_MAX_SLICES).ilog2().min(possible.ilog2())
}

impl Matrix {
    /// Takes matrices over; `taken` hears of each piece of their data that the host is done with.
    ///
    /// # Errors
    /// Sources that do not fit together, no memory, or what the driver says.
    pub(super) fn new(
        cuda: &Cuda,
        sources: &[MatrixSource<'_>],
        taken: &mut dyn FnMut(&[u8]),
    ) -> Result<Self> {
        let (rows, cols) = MatrixSource::stacked(sources)?;
        narrow(OP, rows)?;
        narrow(OP, cols)?;
        let mut parts = Vec::new();
        let mut first_row = 0;
        let mut rest = sources;
        while let Some(first) = rest.first() {
            let (stack, others) = rest.split_at(stackable(rest));
            let part = Part::new(cuda, stack, first_row, taken)?;
            first_row += part.n_rows;
            debug_assert_eq!(part.format, first.format);
            parts.push(part);
            rest = others;
        }
        Ok(Self { parts, rows, cols })
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// The stack.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl Dimensions for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

/// Records of scales that `cols` columns of a tile take.
fn n_records(tiling: &Tiling, cols: usize) -> usize {
    cols.div_ceil((MATMUL_STEP_COLS * tiling.record_steps) as usize)
}

/// Bytes of a part's integers and of its scales; of F32 the rows, and nothing.
pub(super) fn part_bytes(format: Format, rows: usize, cols: usize) -> (usize, usize) {
    let Some(tiling) = tiling(format) else {
        return (
            rows.saturating_mul(cols).saturating_mul(size_of::<f32>()),
            0,
        );
    };
    let records = n_records(&tiling, cols);
    let n_tiles = rows.div_ceil(MATMUL_TILE_ROWS as usize);
    let bytes = |of_record: u32| {
        let of_tile = records.saturating_mul(of_record as usize);
        n_tiles.saturating_mul(of_tile)
    };
    (
        bytes(tiling.record_steps * tiling.step_bytes),
        bytes(tiling.record_bytes),
    )
}

/// How many of the first sources become one part.
pub(super) fn stackable(sources: &[MatrixSource<'_>]) -> usize {
    let fits = |pair: &&[MatrixSource<'_>]| {
        let fills_tiles = pair[0].rows.is_multiple_of(MATMUL_TILE_ROWS as usize);
        pair[0].format == pair[1].format && (fills_tiles || pair[0].format == Format::F32)
    };
    1 + sources.windows(2).take_while(fits).count()
}

impl Part {
    /// `stack` is of one format and fills the tiles before its last source.
    fn new(
        cuda: &Cuda,
        stack: &[MatrixSource<'_>],
        first_row: u32,
        taken: &mut dyn FnMut(&[u8]),
    ) -> Result<Self> {
        let (rows, cols) = MatrixSource::stacked(stack)?;
        let format = stack[0].format;
        let Some(tiling) = tiling(format) else {
            let part = Self::rows(cuda, stack, first_row, narrow(OP, rows)?)?;
            stack.iter().for_each(|source| taken(source.data));
            return Ok(part);
        };
        let part = Self::empty(cuda, format, (rows, cols), first_row, 1)?;
        let mut first = 0;
        for source in stack {
            part.retile(cuda, &tiling, source, first, taken)?;
            first += narrow(OP, source.rows)?;
        }
        Ok(part)
    }

    /// Room for the tiles of `n_copies` matrices of one shape, one behind the other; the part is
    /// the first. F32 has no tiles.
    pub(super) fn empty(
        cuda: &Cuda,
        format: Format,
        (rows, cols): (usize, usize),
        first_row: u32,
        n_copies: usize,
    ) -> Result<Self> {
        let n_rows = narrow(OP, rows)?;
        let Some(tiling) = tiling(format) else {
            return Self::rows(cuda, &[], first_row, n_rows);
        };
        let n_records = narrow(OP, n_records(&tiling, cols))?;
        let n_steps = n_records * tiling.record_steps;
        // Scales begin where a load of 16 bytes may.
        let (scales_at, scales) = part_bytes(format, rows, cols);
        let (scales_at, scales) = (n_copies * scales_at, n_copies * scales);
        Ok(Self {
            format,
            first_row,
            n_rows,
            n_steps,
            bytes: DeviceArray::uninitialised(&cuda.device, "weights", scales_at + scales)?,
            scales_at,
        })
    }

    /// Rows of F32.
    pub(super) fn rows(
        cuda: &Cuda,
        stack: &[MatrixSource<'_>],
        first_row: u32,
        n_rows: u32,
    ) -> Result<Self> {
        let data: Vec<u8> = stack
            .iter()
            .flat_map(|source| source.data)
            .copied()
            .collect();
        Ok(Self {
            format: Format::F32,
            first_row,
            n_rows,
            n_steps: 0,
            bytes: DeviceArray::upload(&cuda.device, "weights", &data)?,
            scales_at: 0,
        })
    }

    /// Puts `source` into the tiles from row `first` of the part on, piece by piece; while the
    /// device works on one, the host fills the next.
    pub(super) fn retile(
        &self,
        cuda: &Cuda,
        tiling: &Tiling,
        source: &MatrixSource<'_>,
        first: u32,
        taken: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let row_bytes = source.data.len() / source.rows;
        let tile_bytes = row_bytes * MATMUL_TILE_ROWS as usize;
        let mut staging: MutexGuard<'_, Option<Staging>> =
            cuda.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let staging = Staging::at_least(&mut staging, &cuda.device, row_bytes)?;
        let chunk_bytes = staging.chunk_bytes() / tile_bytes * tile_bytes;
        let mut first_row = first;
        for chunk in source.data.chunks(chunk_bytes) {
            source.check_weights(chunk)?;
            let n_rows = narrow(OP, chunk.len() / row_bytes)?;
            let launch = Launch {
                module: "retile",
                kernel: tiling.retile,
                grid: (
                    n_rows.div_ceil(MATMUL_TILE_ROWS).div_ceil(MATMUL_WARPS),
                    self.n_steps,
                    1,
                ),
                threads: MATMUL_THREADS,
                shared_bytes: 0,
                params: RetileParams {
                    source: staging.send(&cuda.device, chunk)?,
                    quants: self.quants().cast_mut(),
                    scales: self.scales().cast_mut(),
                    row_bytes: narrow(OP, row_bytes)?,
                    n_rows,
                    first_row,
                    cols: narrow(OP, source.cols)?,
                    n_steps: self.n_steps,
                },
            };
            // SAFETY: the staged rows and the tiles are as large as the shape says; the tiles are
            // nobody else's yet.
            unsafe { cuda.queue().launch(&cuda.device, &launch) }?;
            first_row += n_rows;
            taken(chunk);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_keep_small_matrices_wide_and_large_ones_whole() {
        // (tiles, steps) of 4096², a vocabulary of 256 Ki, two small ones and the smallest.
        for (shape, slices) in [
            ((256, 64), 8),
            ((16_384, 64), 1),
            ((56, 14), 4),
            ((4, 4), 2),
            ((1, 1), 1),
        ] {
            assert_eq!(1 << slice_bits(shape.0, shape.1), slices, "{shape:?}");
        }
    }

    #[test]
    fn sources_of_a_format_stack_where_tiles_are_full() {
        let source = |format, rows| MatrixSource {
            name: "w",
            format,
            rows,
            cols: 32,
            data: &[],
        };
        let sources = [
            source(Format::Q8_0, 32),
            source(Format::Q8_0, 17),
            source(Format::Q8_0, 16),
            source(Format::Q4_0, 16),
        ];
        assert_eq!(stackable(&sources), 2);
        assert_eq!(stackable(&sources[1..]), 1);
        assert_eq!(stackable(&sources[2..]), 1);
    }
}
