//! Tiles of MXFP4 and of 4-bit integers with zero points: a step is 128 columns in two groups.

use bytemuck::{Pod, Zeroable};

use super::blocks32::{half_bits, pack_nibbles};
use super::{Expanded, HalfLanes, Lanes, QuantStep, Step, TILE_ROWS, expand_nibbles, half_lanes};
use crate::quant::int4::{BlockInt4G32, BlockInt4G128};
use crate::quant::mx::{BlockMxfp4, DOUBLED_FP4, half_scale};

/// Columns of a step.
const COLS: usize = 128;

/// What is added to a doubled FP4 number to make it unsigned.
const FP4_OFFSET: u8 = 16;

/// The unsigned integer of each FP4 number: its double plus 16.
pub(crate) const FP4_TABLE: [u8; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = DOUBLED_FP4[i].wrapping_add_unsigned(FP4_OFFSET) as u8;
        i += 1;
    }
    table
};

/// 1088 bytes: an exponent for each 32 columns.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepMxfp4 {
    pub(crate) e: [[u8; TILE_ROWS]; 4],
    pub(crate) nibbles: [[Lanes; 8]; 2],
}

/// 1216 bytes: a scale and a zero point for each 32 columns.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepInt4G32 {
    pub(crate) d: [HalfLanes; 4],
    pub(crate) zero: [[u8; TILE_ROWS]; 4],
    pub(crate) nibbles: [[Lanes; 8]; 2],
}

/// 1088 bytes: one scale and one zero point for all columns.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepInt4G128 {
    pub(crate) d: HalfLanes,
    pub(crate) zero: [u8; TILE_ROWS],
    padding: [u8; 16],
    pub(crate) nibbles: [[Lanes; 8]; 2],
}

/// `d · zero` of each row, which is what is subtracted.
#[inline(always)]
fn minima(d: &[f32; TILE_ROWS], zero: &[u8; TILE_ROWS], out: &mut [f32; TILE_ROWS]) {
    for row in 0..TILE_ROWS {
        out[row] = d[row] * f32::from(zero[row]);
    }
}

impl Step for StepMxfp4 {
    type Source = BlockMxfp4;
    const COLS: usize = COLS;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockMxfp4]) {
        for (i, block) in blocks.iter().enumerate() {
            self.e[i][lane] = block.e;
            pack_nibbles(&mut self.nibbles[i / 2], lane, i % 2, &block.qs);
        }
    }
}

impl QuantStep for StepMxfp4 {
    const OFFSET: u8 = FP4_OFFSET;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = false;
    const BITS: u32 = 5;

    #[inline(always)]
    fn expand(&self, group: usize, out: &mut Expanded) {
        for i in 0..2 {
            for row in 0..TILE_ROWS {
                out.scales[i][row] = half_scale(self.e[2 * group + i][row]);
            }
        }
        expand_nibbles(&self.nibbles[group], None, &mut out.q);
        for q in out.q.as_flattened_mut() {
            *q = FP4_TABLE[usize::from(*q)];
        }
    }
}

impl Step for StepInt4G32 {
    type Source = BlockInt4G32;
    const COLS: usize = COLS;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockInt4G32]) {
        for (i, block) in blocks.iter().enumerate() {
            self.d[i][lane] = half_bits(block.d);
            self.zero[i][lane] = block.zero;
            pack_nibbles(&mut self.nibbles[i / 2], lane, i % 2, &block.qs[0]);
        }
    }
}

impl QuantStep for StepInt4G32 {
    const OFFSET: u8 = 0;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = true;
    const BITS: u32 = 4;

    #[inline(always)]
    fn expand(&self, group: usize, out: &mut Expanded) {
        for i in 0..2 {
            let d = half_lanes(&self.d[2 * group + i]);
            minima(&d, &self.zero[2 * group + i], &mut out.mins[i]);
            out.scales[i] = d;
        }
        expand_nibbles(&self.nibbles[group], None, &mut out.q);
    }
}

impl Step for StepInt4G128 {
    type Source = BlockInt4G128;
    const COLS: usize = COLS;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockInt4G128]) {
        for block in blocks {
            self.d[lane] = half_bits(block.d);
            self.zero[lane] = block.zero;
            for (i, run) in block.qs.iter().enumerate() {
                pack_nibbles(&mut self.nibbles[i / 2], lane, i % 2, run);
            }
        }
    }
}

impl QuantStep for StepInt4G128 {
    const OFFSET: u8 = 0;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = true;
    const BITS: u32 = 4;

    #[inline(always)]
    fn expand(&self, group: usize, out: &mut Expanded) {
        let d = half_lanes(&self.d);
        minima(&d, &self.zero, &mut out.mins[0]);
        out.mins[1] = out.mins[0];
        out.scales[0] = d;
        out.scales[1] = d;
        expand_nibbles(&self.nibbles[group], None, &mut out.q);
    }
}
