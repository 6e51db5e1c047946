//! Tiles of unquantised weights: 64 bytes a step.

use bytemuck::{Pod, Zeroable};

use super::{FloatLanes, HalfLanes, Lanes, Step, TILE_ROWS, half_lanes};
use crate::quant::floats::{BlockBf16, BlockF8E4M3, BlockF16, BlockF32, f8_e4m3_to_f32};

/// One column.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepF32 {
    pub(crate) w: FloatLanes,
}

/// Two columns, one after the other.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepF16 {
    pub(crate) w: [HalfLanes; 2],
}

/// Two columns, a pair in each lane, the first in the low half: what `vdpbf16ps` multiplies.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepBf16 {
    pub(crate) pairs: Lanes,
}

/// Four columns, one after the other.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct StepF8E4M3 {
    pub(crate) w: [[u8; TILE_ROWS]; 4],
}

/// A step of floats, for code that takes them one column at a time.
pub(crate) trait FloatStep: Step {
    /// The weights of column `col` of the step.
    fn column(&self, col: usize) -> FloatLanes;
}

impl Step for StepF32 {
    type Source = BlockF32;
    const COLS: usize = 1;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockF32]) {
        for block in blocks {
            self.w[lane] = f32::from_le_bytes(block.0);
        }
    }
}

impl FloatStep for StepF32 {
    #[inline(always)]
    fn column(&self, _col: usize) -> FloatLanes {
        self.w
    }
}

impl Step for StepF16 {
    type Source = BlockF16;
    const COLS: usize = 2;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockF16]) {
        for (w, block) in self.w.iter_mut().zip(blocks) {
            w[lane] = u16::from_le_bytes(block.0.0);
        }
    }
}

impl FloatStep for StepF16 {
    #[inline(always)]
    fn column(&self, col: usize) -> FloatLanes {
        half_lanes(&self.w[col])
    }
}

impl Step for StepBf16 {
    type Source = BlockBf16;
    const COLS: usize = 2;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockBf16]) {
        for (i, block) in blocks.iter().enumerate() {
            self.pairs[lane] |= u32::from(u16::from_le_bytes(block.0)) << (16 * i);
        }
    }
}

impl FloatStep for StepBf16 {
    #[inline(always)]
    fn column(&self, col: usize) -> FloatLanes {
        let mut out = [0.0; TILE_ROWS];
        for (row, out) in out.iter_mut().enumerate() {
            let pair = self.pairs[row];
            *out = f32::from_bits(if col == 0 {
                pair << 16
            } else {
                pair & 0xffff_0000
            });
        }
        out
    }
}

impl Step for StepF8E4M3 {
    type Source = BlockF8E4M3;
    const COLS: usize = 4;

    #[inline(always)]
    fn pack(&mut self, lane: usize, blocks: &[BlockF8E4M3]) {
        for (w, block) in self.w.iter_mut().zip(blocks) {
            w[lane] = block.0;
        }
    }
}

impl FloatStep for StepF8E4M3 {
    #[inline(always)]
    fn column(&self, col: usize) -> FloatLanes {
        let mut out = [0.0; TILE_ROWS];
        for (row, out) in out.iter_mut().enumerate() {
            *out = f8_e4m3_to_f32(self.w[col][row]);
        }
        out
    }
}

/// Decodes row `lane` of a tile.
pub(super) fn row<S: FloatStep>(tile: &[u8], lane: usize, out: &mut [f32]) {
    let steps: &[S] = bytemuck::cast_slice(tile);
    for (step, out) in steps.iter().zip(out.chunks_mut(S::COLS)) {
        for (col, out) in out.iter_mut().enumerate() {
            *out = step.column(col)[lane];
        }
    }
}
