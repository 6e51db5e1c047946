//! Four-bit weights with other scales than halves alone, as AVX-512 kernels read them.

use std::arch::x86_64::*;

use super::avx512_unpack::{Unpack, halves, nibble, sixteen_bytes};
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

impl Unpack for StepMxfp4 {
    type Source = StepMxfp4;
    const COLS: usize = <StepMxfp4 as Step>::COLS;
    type Header = ();

    #[inline(always)]
    unsafe fn header(&self) {}

    #[inline(always)]
    unsafe fn scales(&self, _header: &(), group: usize) -> [__m512; 4] {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let zero = _mm512_setzero_ps();
            let (first, second) = (&self.e[2 * group], &self.e[2 * group + 1]);
            [exponents(first), exponents(second), zero, zero]
        }
    }

    #[inline(always)]
    unsafe fn vector(&self, group: usize, c: usize) -> __m512i {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let table = _mm512_broadcast_i32x4(sixteen_bytes(&FP4_TABLE));
            _mm512_shuffle_epi8(table, nibble(&self.nibbles[group], c))
        }
    }
}

impl Unpack for StepInt4G32 {
    type Source = StepInt4G32;
    const COLS: usize = <StepInt4G32 as Step>::COLS;
    type Header = ();

    #[inline(always)]
    unsafe fn header(&self) {}

    #[inline(always)]
    unsafe fn scales(&self, _header: &(), group: usize) -> [__m512; 4] {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let zero = _mm512_setzero_ps();
            let (first, second) = (&self.d[2 * group], &self.d[2 * group + 1]);
            [halves(first), halves(second), zero, zero]
        }
    }

    #[inline(always)]
    unsafe fn mins(&self, _header: &(), group: usize) -> [__m512; 2] {
        let (first, second) = (2 * group, 2 * group + 1);
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            [
                minima(halves(&self.d[first]), &self.zero[first]),
                minima(halves(&self.d[second]), &self.zero[second]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn vector(&self, group: usize, c: usize) -> __m512i {
        // SAFETY: the caller vouches for the instructions.
        unsafe { nibble(&self.nibbles[group], c) }
    }
}

impl Unpack for StepInt4G128 {
    type Source = StepInt4G128;
    const COLS: usize = <StepInt4G128 as Step>::COLS;
    type Header = ();

    #[inline(always)]
    unsafe fn header(&self) {}

    #[inline(always)]
    unsafe fn scales(&self, _header: &(), _group: usize) -> [__m512; 4] {
        // SAFETY: the caller vouches for the instructions.
        unsafe { [halves(&self.d); 4] }
    }

    #[inline(always)]
    unsafe fn mins(&self, _header: &(), _group: usize) -> [__m512; 2] {
        // SAFETY: the caller vouches for the instructions.
        unsafe { [minima(halves(&self.d), &self.zero); 2] }
    }

    #[inline(always)]
    unsafe fn vector(&self, group: usize, c: usize) -> __m512i {
        // SAFETY: the caller vouches for the instructions.
        unsafe { nibble(&self.nibbles[group], c) }
    }
}
