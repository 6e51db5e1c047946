//! Probability mass as 64-bit integers, so that sums do not depend on their order.
//!
//! ```text
//! weight(x) = round_half_even(exp(x) · 2^40)      x ≤ 0, in f32
//! ```
//!
//! The most probable token weighs exactly 2^40. One unit is 2^-40 ≈ 9.1e-13 of it: below
//! x = −28.4 the weight is zero, and such a token can never be drawn. 2^20 tokens sum to at
//! most 2^60, four bits short of the word.
//!
//! `exp` is Cody and Waite's reduction `x = n·ln 2 + r` and a polynomial of degree 6 in `r`
//! (own minimax fit, relative error 3.1e-9). It is written as single f32 multiplications and
//! additions, never fused: every machine that rounds to nearest gives the same bits.

use std::f32::consts::LOG2_E;

/// log2 of the weight of the most probable token.
pub const WEIGHT_BITS: u32 = 40;

/// The weight of the most probable token.
pub const WEIGHT_ONE: u64 = 1 << WEIGHT_BITS;

/// Below this every weight is zero; also where −inf is clamped, to keep the reduction finite.
const LEAST: f32 = -32.0;
/// 1.5 · 2^23: adding it to a number of less than 2^22 leaves the nearest integer in the low bits.
const ROUND_F32: f32 = 12_582_912.0;
/// 1.5 · 2^52: the same in f64.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; the first has nine bits, so that its product with `n` is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -0.000_212_194_44;
/// `(exp(r) − 1 − r) / r²` on |r| ≤ ln 2 / 2, the constant first.
const EXP: [f32; 5] = [
    0.499_999_94,
    0.166_665_2,
    0.041_668_4,
    0.008_368_851,
    0.001_381_432,
];

/// The mass of a token whose scaled logit is `x` below that of the most probable one.
///
/// `x` is at most 0 and not NaN.
#[inline(always)]
pub fn weight(x: f32) -> u64 {
    biased_weight(x).wrapping_sub(WEIGHT_BIAS)
}

/// What [`biased_weight`] adds.
pub(super) const WEIGHT_BIAS: u64 = ROUND_F64.to_bits();

/// [`weight`] plus [`WEIGHT_BIAS`], which a sum takes off once for all its terms.
#[inline(always)]
pub(super) fn biased_weight(x: f32) -> u64 {
    let x = if x > LEAST { x } else { LEAST };
    // Exact in f64 but for the one rounding that the definition asks for.
    let rounded = f64::from(scaled_exp(x, WEIGHT_BITS)) + ROUND_F64;
    rounded.to_bits()
}

/// `exp(x) · 2^bits`, a normal number, for `x` from −87 to 0.
#[inline(always)]
pub(crate) fn scaled_exp(x: f32, bits: u32) -> f32 {
    let shifted = x * LOG2_E + ROUND_F32;
    let n = shifted - ROUND_F32;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = EXP[4];
    p = p * r + EXP[3];
    p = p * r + EXP[2];
    p = p * r + EXP[1];
    p = p * r + EXP[0];
    let y = 1.0 + (r + (r * r) * p);
    // The low bits of `shifted` are those of n; with n ≥ −126 the exponent stays normal.
    let exponent = shifted.to_bits().wrapping_add(bits) << 23;
    f32::from_bits(y.to_bits().wrapping_add(exponent))
}

/// `1 / temperature`, finite.
#[inline]
pub fn inverse(temperature: f32) -> f32 {
    (1.0 / temperature).min(f32::MAX)
}

/// The least mass that is at least `share` of `total`, and at least 1: `⌈share · total⌉` exactly.
///
/// `share` lies in 0..=1 and `total` is below 2^63.
pub fn share_of(share: f32, total: u64) -> u64 {
    if share >= 1.0 {
        return total;
    }
    let bits = share.to_bits();
    let (biased, fraction) = (bits >> 23, bits & 0x7F_FFFF);
    let (mantissa, biased) = match biased {
        0 => (fraction, 1),
        _ => (fraction | 0x80_0000, biased),
    };
    // share = mantissa · 2^(biased − 150), and biased ≤ 126.
    let product = u128::from(mantissa) * u128::from(total);
    let ceiling = match 150 - biased {
        shift @ 0..=126 => (product + ((1u128 << shift) - 1)) >> shift,
        _ => 1,
    };
    (ceiling as u64).max(1)
}

/// The point in `0..total` that 64 random bits choose.
pub fn point_in(total: u64, noise: u64) -> u64 {
    ((u128::from(noise) * u128::from(total)) >> 64) as u64
}
