//! Sixteen lanes as two AVX2 registers.

use std::arch::x86_64::*;

use half::f16;

use super::{Kernel, LANES, Simd};

/// Proof that the machine has AVX2, FMA and F16C: made by [`enter`] alone.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// The two halves.
type Pair = [__m256; 2];

/// Runs `kernel` compiled with AVX2.
///
/// # Safety
/// The machine has all that [`Isa::Avx2`](crate::cpu::Isa::Avx2) stands for.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// The greatest of eight lanes.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
pub(super) unsafe fn greatest_of_eight(x: __m256) -> f32 {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
    }
}

/// Methods that are one expression of intrinsics.
macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $out {
            // SAFETY: `self` proves the instructions are there; pointers come from references
            // to as many bytes as the instructions move.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx2 {
    type F = Pair;

    operations! {
        splat(x: f32) -> Pair = [_mm256_set1_ps(x); 2];
        load(from: &[f32; LANES]) -> Pair =
            [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))];
        store(x: Pair, to: &mut [f32; LANES]) -> () = {
            _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), x[1]);
        };
        load_half(from: &[f16; LANES]) -> Pair = [
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8).cast())),
        ];
        store_half(x: Pair, to: &mut [f16; LANES]) -> () = {
            let limit = _mm256_set1_ps(f16::MAX.to_f32_const());
            let low = _mm256_set1_ps(f16::MIN.to_f32_const());
            for (i, x) in x.into_iter().enumerate() {
                let x = _mm256_max_ps(low, _mm256_min_ps(limit, x));
                let halves = _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(x);
                _mm_storeu_si128(to.as_mut_ptr().add(8 * i).cast(), halves);
            }
        };
        add(a: Pair, b: Pair) -> Pair =
            [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])];
        sub(a: Pair, b: Pair) -> Pair =
            [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])];
        mul(a: Pair, b: Pair) -> Pair =
            [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])];
        div(a: Pair, b: Pair) -> Pair =
            [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])];
        fma(a: Pair, b: Pair, c: Pair) -> Pair =
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])];
        min(a: Pair, b: Pair) -> Pair =
            [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])];
        max(a: Pair, b: Pair) -> Pair =
            [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])];
        round(x: Pair) -> Pair =
            [_mm256_round_ps::<0>(x[0]), _mm256_round_ps::<0>(x[1])];
        scale(x: Pair, n: Pair) -> Pair = [scale(x[0], n[0]), scale(x[1], n[1])];
        select(mask: u16, x: Pair, other: Pair) -> Pair = [
            _mm256_blendv_ps(other[0], x[0], expand(mask)),
            _mm256_blendv_ps(other[1], x[1], expand(mask >> 8)),
        ];
        less(a: Pair, b: Pair) -> u16 = {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1]));
            (low | high << 8) as u16
        };
        greatest(x: Pair) -> f32 = greatest_of_eight(_mm256_max_ps(x[0], x[1]));
    }
}

/// `x · 2^n` in two steps, since one power of two does not reach the subnormals.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn scale(x: __m256, n: __m256) -> __m256 {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let x = _mm256_mul_ps(x, power_of_two(half));
        _mm256_mul_ps(x, power_of_two(_mm256_sub_epi32(n, half)))
    }
}

/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn power_of_two(n: __m256i) -> __m256 {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }
}

/// The low eight bits as the sign bits of eight lanes.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn expand(mask: u16) -> __m256 {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let bits = _mm256_set1_epi32(i32::from(mask));
        let shifts = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
        _mm256_castsi256_ps(_mm256_sllv_epi32(bits, shifts))
    }
}
