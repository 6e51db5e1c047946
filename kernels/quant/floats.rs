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
