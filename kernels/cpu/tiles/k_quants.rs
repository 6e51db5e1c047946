//! Tiles of Q4_K and Q5_K: a step is one super-block, 256 columns in four groups.

use bytemuck::{Pod, Zeroable};

use super::{
    Expanded, HalfLanes, Lanes, QuantStep, Step, TILE_ROWS, each_byte, expand_nibbles, half_lanes,
    words,
};
use crate::quant::k_quants::{BlockQ4K, BlockQ5K, PackedScales};

/// Six bits of 4 × 16 scales or minima, by `32-block % 4`, then row.
pub(crate) type PackedLanes = [[u8; TILE_ROWS]; 4];

/// The scales and minima of the eight 32-blocks of a step, six bits each. With `b` the 32-block:
///
/// ```text
/// scale_low[b % 4]   nibble b / 4: the low four bits of the scale
/// min_low[b % 4]     nibble b / 4: the low four bits of the minimum
/// upper[b % 4]       bits 2 (b / 4) …: the scale's upper two; bits 4 + 2 (b / 4) …: the minimum's
/// ```
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Affine {
    pub(crate) d: HalfLanes,
    pub(crate) dmin: HalfLanes,
    pub(crate) scale_low: PackedLanes,
    pub(crate) min_low: PackedLanes,
    pub(crate) upper: PackedLanes,
}

/// 2304 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ4K {
    pub(crate) affine: Affine,
    pub(crate) nibbles: [[Lanes; 8]; 4],
}

/// The fifth bits and nibbles of a group of Q5_K; `high` as in `StepQ5_0`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct FiveBits {
    pub(crate) high: [Lanes; 2],
    pub(crate) nibbles: [Lanes; 8],
}

/// 2816 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ5K {
    pub(crate) affine: Affine,
    pub(crate) groups: [FiveBits; 4],
}

impl Affine {
    #[inline(always)]
    fn pack(&mut self, lane: usize, d: [u8; 2], dmin: [u8; 2], scales: &PackedScales) {
        self.d[lane] = u16::from_le_bytes(d);
        self.dmin[lane] = u16::from_le_bytes(dmin);
        // A file's first eight bytes hold six bits of 32-blocks 0..4 and above them the upper
        // two of blocks 4..8; its last four the low four bits of blocks 4..8.
        let [scale, min, late] = words::<3>(&scales.0);
        let low = each_byte(15);
        let scale_low = (scale & low) | (late & low) << 4;
        let min_low = (min & low) | (late & !low);
        let upper = (scale >> 4 & low) | (min & !low);
        for b in 0..4 {
            self.scale_low[b][lane] = scale_low.to_le_bytes()[b];
            self.min_low[b][lane] = min_low.to_le_bytes()[b];
            self.upper[b][lane] = upper.to_le_bytes()[b];
        }
    }

    #[inline(always)]
    fn expand(&self, group: usize, out: &mut Expanded) {
        let (d, dmin) = (half_lanes(&self.d), half_lanes(&self.dmin));
        for i in 0..2 {
            let (late, b) = (group / 2, 2 * (group % 2) + i);
            for r in 0..TILE_ROWS {
                let upper = self.upper[b][r] >> (2 * late);
                let scale = (self.scale_low[b][r] >> (4 * late) & 15) | (upper & 3) << 4;
                let min = (self.min_low[b][r] >> (4 * late) & 15) | (upper & 0x30);
                out.scales[i][r] = d[r] * f32::from(scale);
                out.mins[i][r] = dmin[r] * f32::from(min);
            }
        }
    }
}

/// A file's nibbles pair columns like a tile's: 32 with the next 32.
#[inline(always)]
fn pack_nibbles<'a>(groups: impl Iterator<Item = &'a mut [Lanes; 8]>, lane: usize, qs: &[u8; 128]) {
    for (nibbles, qs) in groups.zip(qs.as_chunks::<32>().0) {
        for (lanes, word) in nibbles.iter_mut().zip(words::<8>(qs)) {
            lanes[lane] = word;
        }
    }
}

impl Step for StepQ4K {
    type Source = BlockQ4K;
    const COLS: usize = 256;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ4K]) {
        for block in blocks {
            self.affine
                .pack(lane, block.d.0, block.dmin.0, &block.scales);
            pack_nibbles(self.nibbles.iter_mut(), lane, &block.qs);
        }
    }
}

impl QuantStep for StepQ4K {
    const OFFSET: u8 = 0;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = true;
    const BITS: u32 = 4;

    #[inline(always)]
    fn expand(&self, group: usize, out: &mut Expanded) {
        self.affine.expand(group, out);
        expand_nibbles(&self.nibbles[group], None, &mut out.q);
    }
}

impl Step for StepQ5K {
    type Source = BlockQ5K;
    const COLS: usize = 256;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ5K]) {
        for block in blocks {
            self.affine
                .pack(lane, block.d.0, block.dmin.0, &block.scales);
            pack_nibbles(
                self.groups.iter_mut().map(|g| &mut g.nibbles),
                lane,
                &block.qs,
            );
            let bits = words::<8>(&block.qh);
            for (index, group) in self.groups.iter_mut().enumerate() {
                group.high[0][lane] = fifth_bits(&bits, 0, index);
                group.high[1][lane] = fifth_bits(&bits, 1, index);
            }
        }
    }
}

/// The word of a group's fifth bits for vectors `parity`, `parity + 2`, …: a file keeps bit `b`
/// of byte `i` for column `i` of 32-block `b`.
#[inline(always)]
fn fifth_bits(bits: &[u32; 8], parity: usize, group: usize) -> u32 {
    let mut word = 0;
    for pair in 0..4 {
        let both = bits[2 * pair + parity] >> (2 * group);
        word |= (both & each_byte(1)) << pair;
        word |= (both >> 1 & each_byte(1)) << (pair + 4);
    }
    word
}

impl QuantStep for StepQ5K {
    const OFFSET: u8 = 0;
    const SCALE_COLS: usize = 32;
    const HAS_MINS: bool = true;
    const BITS: u32 = 5;

    #[inline(always)]
    fn expand(&self, group: usize, out: &mut Expanded) {
        self.affine.expand(group, out);
        let bits = &self.groups[group];
        expand_nibbles(&bits.nibbles, Some(&bits.high), &mut out.q);
    }
}
