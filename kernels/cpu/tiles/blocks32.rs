//! Tiles of the formats whose blocks are 32 weights: a step is two blocks, 64 columns.

use bytemuck::{Pod, Zeroable};

use super::{
    Expanded, FloatLanes, GROUP, HalfLanes, Lanes, QuantStep, Step, TILE_ROWS, each_byte,
    expand_nibbles, half_lanes, words,
};
use crate::quant::Half;
use crate::quant::legacy::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};

/// 576 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ4_0 {
    pub(crate) d: [HalfLanes; 2],
    pub(crate) nibbles: [Lanes; 8],
}

/// 640 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ4_1 {
    pub(crate) d: [HalfLanes; 2],
    pub(crate) m: [HalfLanes; 2],
    pub(crate) nibbles: [Lanes; 8],
}

/// 704 bytes. Bit `c / 2` of `high[c % 2]` is the fifth bit of vector `c` of 16.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ5_0 {
    pub(crate) d: [HalfLanes; 2],
    pub(crate) high: [Lanes; 2],
    pub(crate) nibbles: [Lanes; 8],
}

/// 768 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ5_1 {
    pub(crate) d: [HalfLanes; 2],
    pub(crate) m: [HalfLanes; 2],
    pub(crate) high: [Lanes; 2],
    pub(crate) nibbles: [Lanes; 8],
}

/// 1088 bytes; integers are stored with 128 added.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ8_0 {
    pub(crate) d: [HalfLanes; 2],
    pub(crate) q: [Lanes; 16],
}

/// Moves the nibbles of block `index` of a row to its lane. A file pairs column `i` with
/// `i + 16` of one block; a tile pairs column `i` of the first block with `i` of the second.
#[inline(always)]
pub(super) fn pack_nibbles(nibbles: &mut [Lanes; 8], lane: usize, index: usize, qs: &[u8; 16]) {
    let mask = each_byte(15);
    for (c, word) in words::<4>(qs).into_iter().enumerate() {
        nibbles[c][lane] |= (word & mask) << (4 * index);
        nibbles[c + 4][lane] |= (word >> 4 & mask) << (4 * index);
    }
}

/// Moves the fifth bits of a row's two blocks to its lane.
#[inline(always)]
fn pack_high(high: &mut [Lanes; 2], lane: usize, bits: u64) {
    let bytes = transpose_bits(bits);
    high[0][lane] = bytes as u32;
    high[1][lane] = (bytes >> 32) as u32;
}

/// Transposes an 8 × 8 matrix of bits: bit `8 i + j` goes to `8 j + i` (Hacker's Delight 7-3).
#[inline(always)]
fn transpose_bits(mut x: u64) -> u64 {
    for (shift, mask) in [
        (7, 0x00aa_00aa_00aa_00aa),
        (14, 0x0000_cccc_0000_cccc),
        (28, 0x0000_0000_f0f0_f0f0),
    ] {
        let swapped = (x ^ x >> shift) & mask;
        x ^= swapped ^ swapped << shift;
    }
    x
}

#[inline(always)]
pub(super) fn half_bits(half: Half) -> u16 {
    u16::from_le_bytes(half.0)
}

impl Step for StepQ4_0 {
    type Source = BlockQ4_0;
    const COLS: usize = GROUP;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ4_0]) {
        for (i, block) in blocks.iter().enumerate() {
            self.d[i][lane] = half_bits(block.d);
            pack_nibbles(&mut self.nibbles, lane, i, &block.qs);
        }
    }
}

impl QuantStep for StepQ4_0 {
    const OFFSET: u8 = 8;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = false;
    const BITS: u32 = 4;

    #[inline(always)]
    fn expand(&self, _group: usize, out: &mut Expanded) {
        expand_halves(&self.d, &mut out.scales, 1.0);
        expand_nibbles(&self.nibbles, None, &mut out.q);
    }
}

impl Step for StepQ4_1 {
    type Source = BlockQ4_1;
    const COLS: usize = GROUP;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ4_1]) {
        for (i, block) in blocks.iter().enumerate() {
            self.d[i][lane] = half_bits(block.d);
            self.m[i][lane] = half_bits(block.m);
            pack_nibbles(&mut self.nibbles, lane, i, &block.qs);
        }
    }
}

impl QuantStep for StepQ4_1 {
    const OFFSET: u8 = 0;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = true;
    const BITS: u32 = 4;

    #[inline(always)]
    fn expand(&self, _group: usize, out: &mut Expanded) {
        expand_halves(&self.d, &mut out.scales, 1.0);
        expand_halves(&self.m, &mut out.mins, -1.0);
        expand_nibbles(&self.nibbles, None, &mut out.q);
    }
}

impl Step for StepQ5_0 {
    type Source = BlockQ5_0;
    const COLS: usize = GROUP;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ5_0]) {
        let mut high = 0;
        for (i, block) in blocks.iter().enumerate() {
            self.d[i][lane] = half_bits(block.d);
            high |= u64::from(u32::from_le_bytes(block.qh)) << (32 * i);
            pack_nibbles(&mut self.nibbles, lane, i, &block.qs);
        }
        pack_high(&mut self.high, lane, high);
    }
}

impl QuantStep for StepQ5_0 {
    const OFFSET: u8 = 16;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = false;
    const BITS: u32 = 5;

    #[inline(always)]
    fn expand(&self, _group: usize, out: &mut Expanded) {
        expand_halves(&self.d, &mut out.scales, 1.0);
        expand_nibbles(&self.nibbles, Some(&self.high), &mut out.q);
    }
}

impl Step for StepQ5_1 {
    type Source = BlockQ5_1;
    const COLS: usize = GROUP;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ5_1]) {
        let mut high = 0;
        for (i, block) in blocks.iter().enumerate() {
            self.d[i][lane] = half_bits(block.d);
            self.m[i][lane] = half_bits(block.m);
            high |= u64::from(u32::from_le_bytes(block.qh)) << (32 * i);
            pack_nibbles(&mut self.nibbles, lane, i, &block.qs);
        }
        pack_high(&mut self.high, lane, high);
    }
}

impl QuantStep for StepQ5_1 {
    const OFFSET: u8 = 0;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = true;
    const BITS: u32 = 5;

    #[inline(always)]
    fn expand(&self, _group: usize, out: &mut Expanded) {
        expand_halves(&self.d, &mut out.scales, 1.0);
        expand_halves(&self.m, &mut out.mins, -1.0);
        expand_nibbles(&self.nibbles, Some(&self.high), &mut out.q);
    }
}

impl Step for StepQ8_0 {
    type Source = BlockQ8_0;
    const COLS: usize = GROUP;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ8_0]) {
        for (i, block) in blocks.iter().enumerate() {
            self.d[i][lane] = half_bits(block.d);
            let qs = words::<8>(bytemuck::bytes_of(&block.qs));
            for (c, word) in qs.into_iter().enumerate() {
                self.q[8 * i + c][lane] = word ^ each_byte(0x80);
            }
        }
    }
}

impl QuantStep for StepQ8_0 {
    const OFFSET: u8 = 128;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = false;
    const BITS: u32 = 8;

    #[inline(always)]
    fn expand(&self, _group: usize, out: &mut Expanded) {
        expand_halves(&self.d, &mut out.scales, 1.0);
        out.q = bytemuck::cast(self.q);
    }
}

#[inline(always)]
fn expand_halves(halves: &[HalfLanes; 2], out: &mut [FloatLanes], sign: f32) {
    for i in 0..2 {
        let lanes = half_lanes(&halves[i]);
        for row in 0..TILE_ROWS {
            out[i][row] = lanes[row] * sign;
        }
    }
}
