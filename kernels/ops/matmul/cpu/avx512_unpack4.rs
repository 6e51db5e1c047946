//! Four-bit weights with other scales than halves alone, as AVX-512 kernels read them.

use std::arch::x86_64::*;

use super::avx512_unpack::{Unpack, halves, nibble, pair, sixteen_bytes, unpack};
use crate::cpu::tiles::*;

/// `2^(e − 128)` of each exponent; NaN for 255.
#[inline(always)]
unsafe fn exponents(e: &[u8; TILE_ROWS]) -> __m512 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let e = _mm512_cvtepu8_epi32(sixteen_bytes(e));
        let nan = _mm512_cmpeq_epi32_mask(e, _mm512_set1_epi32(255));
        let power = _mm512_sub_ps(_mm512_cvtepi32_ps(e), _mm512_set1_ps(128.0));
        let scale = _mm512_scalef_ps(_mm512_set1_ps(1.0), power);
        _mm512_mask_mov_ps(scale, nan, _mm512_set1_ps(f32::NAN))
    }
}

/// `d · zero` of each row.
#[inline(always)]
unsafe fn minima(d: __m512, zero: &[u8; TILE_ROWS]) -> __m512 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let zero = _mm512_cvtepu8_epi32(sixteen_bytes(zero));
        _mm512_mul_ps(d, _mm512_cvtepi32_ps(zero))
    }
}

/// The number that each four bits stand for.
#[inline(always)]
unsafe fn fp4(nibbles: __m512i) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen_bytes(&FP4_TABLE)), nibbles) }
}

unpack!(StepMxfp4, |this, group, c| {
    scales: pair(exponents(&this.e[2 * group]), exponents(&this.e[2 * group + 1])),
    vector: fp4(nibble(&this.nibbles[group], c)),
});

unpack!(StepInt4G32, |this, group, c| {
    scales: pair(halves(&this.d[2 * group]), halves(&this.d[2 * group + 1])),
    mins: [
        minima(halves(&this.d[2 * group]), &this.zero[2 * group]),
        minima(halves(&this.d[2 * group + 1]), &this.zero[2 * group + 1]),
    ],
    vector: nibble(&this.nibbles[group], c),
});

unpack!(StepInt4G128, |this, group, c| {
    scales: [halves(&this.d); 4],
    mins: [minima(halves(&this.d), &this.zero); 2],
    vector: nibble(&this.nibbles[group], c),
});
