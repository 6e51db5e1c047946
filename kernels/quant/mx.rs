//! The microscaling format MXFP4 (OCP Microscaling Formats 1.0): 32 weights of FP4 E2M1 under
//! one power of two.
//!
//! ```text
//! w = 2^(e − 127) · fp4(q)        fp4: 0, ½, 1, 1½, 2, 3, 4, 6; bit 3 is the sign
//! ```
//!
//! The values are halves of whole numbers, so the tables here hold their doubles and the scale
//! is halved. A scale byte of 255 is NaN, and no matrix is made of such blocks.
//!
//! A scale byte of 0 stands for 2^−127, which f32 has as a subnormal number. Products on a GPU take
//! the byte for the exponent of an f32 and so count these blocks as zeros, which is less than
//! 4e−38 off for a weight; everything else has the weights as they are.

use bytemuck::{Pod, Zeroable};

use super::{Block, extreme};

/// Twice the value of each FP4 E2M1 number.
pub const DOUBLED_FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The greatest scale byte whose block holds no infinity: `6 · 2^(252 − 127) < f32::MAX`.
const MAX_EXPONENT: u32 = 252;

/// A scale byte, then nibbles: byte `i` holds weight `i` (low) and weight `i + 16` (high).
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMxfp4 {
    /// Scale: E8M0, an exponent and nothing else.
    pub e: u8,
    /// Nibbles.
    pub qs: [u8; 16],
}

/// Half the scale that an E8M0 byte stands for, `2^(e − 128)`; NaN for 255.
#[inline(always)]
pub(crate) fn half_scale(e: u8) -> f32 {
    // The two smallest are subnormal.
    let bits = match e {
        0..2 => 0x0020_0000 << e,
        255 => 0x7fc0_0000,
        _ => u32::from(e - 1) << 23,
    };
    f32::from_bits(bits)
}

impl Block for BlockMxfp4 {
    const LEN: usize = 32;
    const FLAW: &'static str = "a scale that is NaN";

    #[inline]
    fn is_sound(&self) -> bool {
        self.e != 255
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let d = half_scale(self.e);
        for (i, out) in out.iter_mut().enumerate() {
            let nibble = self.qs[i % 16] >> (4 * (i / 16)) & 15;
            *out = d * f32::from(DOUBLED_FP4[usize::from(nibble)]);
        }
    }

    /// The scale brings the greatest magnitude between 4 and 8 (as the specification has it);
    /// what is above 6 becomes 6.
    fn quantise(values: &[f32]) -> Self {
        let exponent = extreme(values).abs().to_bits() >> 23;
        let e = exponent.saturating_sub(2).min(MAX_EXPONENT) as u8;
        let d = f64::from(half_scale(e));
        let q = |x: f32| {
            let doubled = f64::from(x) / d;
            let distance = |&q: &usize| (doubled.abs() - f64::from(DOUBLED_FP4[q])).abs();
            let nearest = (0..8).min_by(|a, b| distance(a).total_cmp(&distance(b)));
            let sign = if x < 0.0 { 8 } else { 0 };
            nearest.map_or(0, |q| q as u8 | sign)
        };
        let qs = std::array::from_fn(|i| q(values[i]) | q(values[i + 16]) << 4);
        Self { e, qs }
    }
}
