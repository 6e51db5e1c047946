//! Unquantised weights: a block is one number.

use bytemuck::{Pod, Zeroable};
use half::bf16;

use super::{Block, Half, bf16_to_f32};

/// IEEE single precision.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct BlockF32(pub [u8; 4]);

impl Block for BlockF32 {
    const LEN: usize = 1;

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        out[0] = f32::from_le_bytes(self.0);
    }

    fn quantise(values: &[f32]) -> Self {
        Self(values[0].to_le_bytes())
    }
}

/// IEEE half precision.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct BlockF16(pub Half);

impl Block for BlockF16 {
    const LEN: usize = 1;

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        out[0] = self.0.to_f32();
    }

    fn quantise(values: &[f32]) -> Self {
        Self(Half::nearest_finite(values[0]))
    }
}

/// The upper half of a single.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct BlockBf16(pub [u8; 2]);

impl Block for BlockBf16 {
    const LEN: usize = 1;

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        out[0] = bf16_to_f32(self.0);
    }

    fn quantise(values: &[f32]) -> Self {
        Self(bf16::from_f32(values[0]).to_le_bytes())
    }
}

/// Eight bits: FP8 E4M3 in the variant without infinities (OCP 8-bit floating point 1.0; E4M3FN
/// elsewhere). Bias 7, greatest value 448, NaN `0x7f` and `0xff`.
///
/// The scale that a checkpoint has for a tensor, its rows or its tiles is no part of the block:
/// it is for whoever loads the weights to apply.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct BlockF8E4M3(pub u8);

/// The value of an FP8 E4M3 number, exactly; without a branch, so that loops over it become
/// vector code.
#[inline(always)]
pub(crate) fn f8_e4m3_to_f32(bits: u8) -> f32 {
    let magnitude = u32::from(bits & 0x7f);
    // 2^120 moves the exponent's bias from 7 to 127 and makes subnormals normal.
    let finite = (f32::from_bits(magnitude << 20) * f32::from_bits((127 + 120) << 23)).to_bits();
    let value = if magnitude == 0x7f {
        0x7fc0_0000
    } else {
        finite
    };
    f32::from_bits(value | u32::from(bits & 0x80) << 24)
}

impl Block for BlockF8E4M3 {
    const LEN: usize = 1;
    const FLAW: &'static str = "a weight that is NaN";

    #[inline]
    fn is_sound(&self) -> bool {
        self.0 & 0x7f != 0x7f
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        out[0] = f8_e4m3_to_f32(self.0);
    }

    fn quantise(values: &[f32]) -> Self {
        const LEAST_NORMAL: f32 = 0.015625;
        let sign = (values[0].to_bits() >> 24) as u8 & 0x80;
        let x = values[0].abs().min(448.0);
        let magnitude = if values[0].is_nan() {
            0x7f
        } else if x < LEAST_NORMAL {
            // Whole steps of 2^-9; the eighth is the least normal number.
            (x * 512.0).round_ties_even() as u8
        } else {
            // Nearest, ties to even, in the upper 3 of 23 mantissa bits; then the bias.
            let bits = x.to_bits();
            let rounded = (bits + 0x7_ffff + (bits >> 20 & 1)) >> 20;
            (rounded - ((127 - 7) << 3)) as u8
        };
        Self(sign | magnitude)
    }
}
