//! How the CPU backend lays weights out: tiles of 16 rows, cut along the columns into steps.
//!
//! The unit is [`Lanes`], one 64-byte vector: 16 rows × 4 consecutive columns of byte-sized
//! integers, four to a lane. Integer dot products of four (`vpdpbusd`, `vpmaddubsw` + `vpmaddwd`)
//! then keep one row a lane, and an activation is the same for all lanes: a broadcast.
//!
//! A tile is read from front to back without a gap: a step holds the scales and the integers of
//! its columns, 64 for formats of 32-blocks, 128 for MXFP4 and integers with zero points, 256 for
//! the K-quants, so decoding streams one contiguous run of memory. A step has exactly its blocks'
//! bytes (Q6_K: 1 % more, integers in groups of 128: 1.5 %). Rows beyond the matrix and columns
//! beyond its last block have zero scales or zero weights and weigh nothing.
//!
//! Integers are unsigned: `w = scale · (q − OFFSET) − min`. In [`groups`](GROUP) of 64 columns
//! the low four bits of the first 32 columns are the low nibbles, those of the second 32 the
//! high nibbles.

mod blocks32;
mod blocks4;
mod floats;
mod k_quants;
mod q6k;

use bytemuck::{Pod, Zeroable};

pub(crate) use blocks4::{FP4_TABLE, StepInt4G32, StepInt4G128, StepMxfp4};
pub(crate) use blocks32::{StepQ4_0, StepQ4_1, StepQ5_0, StepQ5_1, StepQ8_0};
pub(crate) use floats::{FloatStep, StepBf16, StepF8E4M3, StepF16, StepF32};
pub(crate) use k_quants::{Affine, StepQ4K, StepQ5K};
pub(crate) use q6k::StepQ6K;

use crate::quant::{Block, Format};

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Columns that are unpacked together.
pub(crate) const GROUP: usize = 64;

/// One vector: four bytes of each of 16 rows.
pub(crate) type Lanes = [u32; TILE_ROWS];
/// A half-precision scale of each of 16 rows.
pub(crate) type HalfLanes = [u16; TILE_ROWS];
/// A scale of each of 16 rows.
pub(crate) type FloatLanes = [f32; TILE_ROWS];

/// The columns of a tile that share a layout unit, for formats of integers and floats alike.
pub(crate) trait Step: Pod {
    /// The file's block.
    type Source: Block;
    /// Columns of a step.
    const COLS: usize;

    /// Writes the blocks of one row, `COLS` columns, to lane `lane`, which is all zero.
    fn pack(&mut self, lane: usize, blocks: &[Self::Source]);
}

/// A step of integers with scales.
pub(crate) trait QuantStep: Step {
    /// What is subtracted from the unsigned integer.
    const OFFSET: u8;
    /// Consecutive columns under one scale: 16 or 32.
    const SCALE_COLS: usize;
    /// Whether there are minima, one every 32 columns.
    const HAS_MINS: bool;
    /// Bits of the unsigned integer.
    const BITS: u32;

    /// Unpacks the group at column `group * GROUP`.
    fn expand(&self, group: usize, out: &mut Expanded);
}

/// A group of 16 rows × 64 columns with nothing left packed.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Expanded {
    /// By `column / SCALE_COLS`; two or four are in use.
    pub(crate) scales: [FloatLanes; 4],
    /// By `column / 32`; zero without minima.
    pub(crate) mins: [FloatLanes; 2],
    /// Unsigned integers by `column / 4`, four to a row.
    pub(crate) q: [[u8; 64]; 16],
}

/// Calls a generic item with the step type of a format of integers; floats give `$otherwise`.
macro_rules! with_quant_step {
    ($format:expr, $step:ident => $body:expr, $otherwise:expr) => {{
        use $crate::cpu::tiles::*;
        match $format {
            Format::Q4_0 => {
                type $step = StepQ4_0;
                $body
            }
            Format::Q4_1 => {
                type $step = StepQ4_1;
                $body
            }
            Format::Q5_0 => {
                type $step = StepQ5_0;
                $body
            }
            Format::Q5_1 => {
                type $step = StepQ5_1;
                $body
            }
            Format::Q8_0 => {
                type $step = StepQ8_0;
                $body
            }
            Format::Q4K => {
                type $step = StepQ4K;
                $body
            }
            Format::Q5K => {
                type $step = StepQ5K;
                $body
            }
            Format::Q6K => {
                type $step = StepQ6K;
                $body
            }
            Format::Mxfp4 => {
                type $step = StepMxfp4;
                $body
            }
            Format::Int4G32 => {
                type $step = StepInt4G32;
                $body
            }
            Format::Int4G128 => {
                type $step = StepInt4G128;
                $body
            }
            Format::F32 | Format::F16 | Format::Bf16 | Format::F8E4M3 => $otherwise,
        }
    }};
}
pub(crate) use with_quant_step;

/// Calls a generic item with the step type of any format.
macro_rules! with_step {
    ($format:expr, $step:ident => $body:expr) => {
        match $format {
            Format::F32 => { type $step = $crate::cpu::tiles::StepF32; $body }
            Format::F16 => { type $step = $crate::cpu::tiles::StepF16; $body }
            Format::Bf16 => { type $step = $crate::cpu::tiles::StepBf16; $body }
            Format::F8E4M3 => { type $step = $crate::cpu::tiles::StepF8E4M3; $body }
            quantised => $crate::cpu::tiles::with_quant_step!(quantised, $step => $body, unreachable!()),
        }
    };
}

/// Columns of a step of `format`.
pub(crate) fn step_cols(format: Format) -> usize {
    with_step!(format, S => S::COLS)
}

/// Bytes of a step of `format`.
pub(crate) fn step_bytes(format: Format) -> usize {
    with_step!(format, S => size_of::<S>())
}

/// Bytes of a tile of `cols` columns; `None` where no memory holds them.
pub(crate) fn tile_bytes(format: Format, cols: usize) -> Option<usize> {
    cols.div_ceil(step_cols(format))
        .checked_mul(step_bytes(format))
}

/// Re-tiles up to 16 rows of `row_bytes` bytes each into `tile`, which is all zero.
pub(crate) fn retile(format: Format, rows: &[u8], row_bytes: usize, tile: &mut [u8]) {
    with_step!(format, S => retile_rows::<S>(rows, row_bytes, tile));
}

fn retile_rows<S: Step>(rows: &[u8], row_bytes: usize, tile: &mut [u8]) {
    let steps: &mut [S] = bytemuck::cast_slice_mut(tile);
    let per_step = S::COLS / S::Source::LEN;
    // Step by step, not row by row: the step being written stays in the first-level cache.
    for (index, step) in steps.iter_mut().enumerate() {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let blocks: &[S::Source] = bytemuck::cast_slice(row);
            let first = index * per_step;
            let last = (first + per_step).min(blocks.len());
            step.pack(lane, &blocks[first..last]);
        }
    }
}

/// Decodes row `lane` of a tile into `out`, one value a column: the bits of
/// [`dequantise`](crate::quant::dequantise).
pub(crate) fn row(format: Format, tile: &[u8], lane: usize, out: &mut [f32]) {
    match format {
        Format::F32 => floats::row::<StepF32>(tile, lane, out),
        Format::F16 => floats::row::<StepF16>(tile, lane, out),
        Format::Bf16 => floats::row::<StepBf16>(tile, lane, out),
        Format::F8E4M3 => floats::row::<StepF8E4M3>(tile, lane, out),
        _ => with_quant_step!(format, S => quant_row::<S>(tile, lane, out), ()),
    }
}

fn quant_row<S: QuantStep>(tile: &[u8], lane: usize, out: &mut [f32]) {
    let steps: &[S] = bytemuck::cast_slice(tile);
    let groups_per_step = S::COLS / GROUP;
    let mut group = Expanded::zeroed();
    for (index, out) in out.chunks_mut(GROUP).enumerate() {
        steps[index / groups_per_step].expand(index % groups_per_step, &mut group);
        for (col, out) in out.iter_mut().enumerate() {
            let q = i32::from(group.q[col / 4][lane * 4 + col % 4]) - i32::from(S::OFFSET);
            *out = group.scales[col / S::SCALE_COLS][lane] * q as f32;
            if S::HAS_MINS {
                *out -= group.mins[col / 32][lane];
            }
        }
    }
}

/// The exact value of a half; unlike the `half` crate's, without a branch, so that loops over
/// it become vector code.
#[inline(always)]
pub(crate) fn half_to_f32(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7fff) << 13;
    // 2^112 moves the exponent's bias from 15 to 127 and makes subnormals normal.
    let finite = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
    let bits = if half & 0x7c00 == 0x7c00 {
        magnitude | 0x7f80_0000
    } else {
        finite
    };
    f32::from_bits(bits | u32::from(half & 0x8000) << 16)
}

#[inline(always)]
fn half_lanes(halves: &HalfLanes) -> FloatLanes {
    let mut out = [0.0; TILE_ROWS];
    for row in 0..TILE_ROWS {
        out[row] = half_to_f32(halves[row]);
    }
    out
}

/// The `N` little-endian words of `4 N` bytes.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8]) -> [u32; N]
where
    [u32; N]: Pod,
{
    bytemuck::pod_read_unaligned(bytes)
}

/// The same in every byte of a word.
const fn each_byte(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

/// Unpacks the nibbles of a group, and from `high` the fifth bits if there are any: bit
/// `c / 2` of `high[c % 2]` belongs to vector `c`.
#[inline(always)]
fn expand_nibbles(nibbles: &[Lanes; 8], high: Option<&[Lanes; 2]>, q: &mut [[u8; 64]; 16]) {
    for c in 0..8 {
        let packed: &[u8; 64] = bytemuck::cast_ref(&nibbles[c]);
        for i in 0..64 {
            q[c][i] = packed[i] & 15;
            q[c + 8][i] = packed[i] >> 4;
        }
    }
    let Some(high) = high else { return };
    for (c, q) in q.iter_mut().enumerate() {
        let packed: &[u8; 64] = bytemuck::cast_ref(&high[c % 2]);
        for i in 0..64 {
            q[i] |= (packed[i] >> (c / 2) & 1) << 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{dequantise, quantise};

    /// Random block bytes: every integer and scale pattern, NaN and infinite scales included.
    fn noise(len: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn rows_of_a_tile_have_the_bits_of_their_blocks() {
        for format in Format::ALL {
            for n_rows in [1, 7, 16] {
                let cols = 3 * format.block_len();
                let row_bytes = format.row_bytes(cols).unwrap();
                let rows = noise(n_rows * row_bytes, 88172645463325252);
                let mut tile = vec![Expanded::zeroed(); 16];
                let tile: &mut [u8] = bytemuck::cast_slice_mut(&mut tile);
                let tile = &mut tile[..tile_bytes(format, cols).unwrap()];
                retile(format, &rows, row_bytes, tile);
                let (mut found, mut expected) = (vec![0.0; cols], vec![0.0; cols]);
                for (lane, blocks) in rows.chunks(row_bytes).enumerate() {
                    row(format, tile, lane, &mut found);
                    dequantise(format, blocks, &mut expected).unwrap();
                    for (col, (f, e)) in found.iter().zip(&expected).enumerate() {
                        let same = f.to_bits() == e.to_bits() || f.is_nan() && e.is_nan();
                        assert!(same, "{format} row {lane} column {col}: {f} {e}");
                    }
                }
                for lane in n_rows..TILE_ROWS {
                    row(format, tile, lane, &mut found);
                    assert!(found.iter().all(|&w| w == 0.0), "{format} padding");
                }
            }
        }
    }

    #[test]
    fn tiles_are_as_large_as_their_blocks() {
        for format in Format::ALL {
            let source = 16 * format.row_bytes(256).unwrap();
            let tile = tile_bytes(format, 256).unwrap();
            let extra = match format {
                Format::Q6K | Format::Int4G128 => 32,
                _ => 0,
            };
            assert_eq!(tile, source + extra, "{format}");
        }
        assert!(quantise(Format::Q4K, &[0.5; 256]).is_ok());
    }

    #[test]
    fn every_half_converts_exactly() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits).to_f32();
            let found = half_to_f32(bits);
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{bits:04x}: {found} {expected}");
        }
    }
}
