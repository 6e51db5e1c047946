//! Tiles of Q6_K: a step is one super-block, 256 columns in four groups.

use bytemuck::{Pod, Zeroable};

use super::{
    Expanded, HalfLanes, Lanes, QuantStep, Step, TILE_ROWS, each_byte, expand_nibbles, half_lanes,
    words,
};
use crate::quant::k_quants::BlockQ6K;

/// A group's 16-column scales, upper two bits and nibbles. Bits `2 (c / 4) …` of `high[c % 4]`
/// are the upper two of vector `c` of 16.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct SixBits {
    pub(crate) scales: [[i8; TILE_ROWS]; 4],
    pub(crate) high: [Lanes; 4],
    pub(crate) nibbles: [Lanes; 8],
}

/// 3392 bytes. The scales stand with their group, not together: read in order, a step costs
/// what its bytes cost.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepQ6K {
    pub(crate) d: HalfLanes,
    padding: [u16; 16],
    pub(crate) groups: [SixBits; 4],
}

impl Step for StepQ6K {
    type Source = BlockQ6K;
    const COLS: usize = 256;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockQ6K]) {
        for block in blocks {
            self.d[lane] = u16::from_le_bytes(block.d.0);
            for half in 0..2 {
                let low = words::<16>(&block.ql[64 * half..64 * half + 64]);
                let high = words::<8>(&block.qh[32 * half..32 * half + 32]);
                for odd in 0..2 {
                    let group = &mut self.groups[2 * half + odd];
                    pack_nibbles(&mut group.nibbles, lane, &low, odd);
                    pack_high(&mut group.high, lane, &high, odd);
                    for (i, scales) in group.scales.iter_mut().enumerate() {
                        scales[lane] = block.scales[8 * half + 4 * odd + i];
                    }
                }
            }
        }
    }
}

/// Of 128 columns a file's low nibbles hold the first 64, its high nibbles the second.
#[inline(always)]
fn pack_nibbles(nibbles: &mut [Lanes; 8], lane: usize, low: &[u32; 16], odd: usize) {
    for c in 0..8 {
        let first = low[c] >> (4 * odd) & each_byte(15);
        let second = low[c + 8] >> (4 * odd) & each_byte(15);
        nibbles[c][lane] = first | second << 4;
    }
}

/// Of 128 columns a file's byte holds the upper bits of four that lie 32 apart.
#[inline(always)]
fn pack_high(high: &mut [Lanes; 4], lane: usize, bits: &[u32; 8], odd: usize) {
    let pick = |word: u32, run: usize| word >> (4 * odd + 2 * run) & each_byte(3);
    for (m, lanes) in high.iter_mut().enumerate() {
        let (near, far) = (bits[m], bits[m + 4]);
        lanes[lane] = pick(near, 0) | pick(far, 0) << 2 | pick(near, 1) << 4 | pick(far, 1) << 6;
    }
}

impl QuantStep for StepQ6K {
    const OFFSET: u8 = 32;
    const SCALE_COLS: usize = 16;
    const HAS_MINS: bool = false;
    const BITS: u32 = 6;

    #[inline(always)]
    fn expand(&self, group: usize, out: &mut Expanded) {
        let d = half_lanes(&self.d);
        let group = &self.groups[group];
        for (scales, out) in group.scales.iter().zip(&mut out.scales) {
            for r in 0..TILE_ROWS {
                out[r] = d[r] * f32::from(scales[r]);
            }
        }
        expand_nibbles(&group.nibbles, None, &mut out.q);
        for (c, q) in out.q.iter_mut().enumerate() {
            let packed: &[u8; 64] = bytemuck::cast_ref(&group.high[c % 4]);
            for i in 0..64 {
                q[i] |= (packed[i] >> (2 * (c / 4)) & 3) << 4;
            }
        }
    }
}
