//! Sixteen lanes as one AVX-512 register.

use std::arch::x86_64::*;

use half::f16;

use super::{Kernel, LANES, Simd};

/// Proof that the machine has AVX-512: made by [`enter`] alone.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Runs `kernel` compiled with AVX-512.
///
/// # Safety
/// The machine has all that [`Isa::Avx512`](crate::cpu::Isa::Avx512) stands for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// Methods that are one expression of intrinsics.
macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $type),*) -> $out {
            // SAFETY: `self` proves the instructions are there; pointers come from references
            // to as many bytes as the instruction moves.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx512 {
    type F = __m512;

    operations! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        load(from: &[f32; LANES]) -> __m512 = _mm512_loadu_ps(from.as_ptr());
        store(x: __m512, to: &mut [f32; LANES]) -> () = _mm512_storeu_ps(to.as_mut_ptr(), x);
        load_half(from: &[f16; LANES]) -> __m512 =
            _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()));
        store_half(x: __m512, to: &mut [f16; LANES]) -> () = {
            let limit = _mm512_set1_ps(f16::MAX.to_f32_const());
            let low = _mm512_set1_ps(f16::MIN.to_f32_const());
            let x = _mm512_max_ps(low, _mm512_min_ps(limit, x));
            let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(x);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), halves)
        };
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        round(x: __m512) -> __m512 = _mm512_roundscale_ps::<0>(x);
        scale(x: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(x, n);
        select(mask: u16, x: __m512, other: __m512) -> __m512 =
            _mm512_mask_blend_ps(mask, other, x);
        less(a: __m512, b: __m512) -> u16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        sum(x: __m512) -> f32 = _mm512_reduce_add_ps(x);
        greatest(x: __m512) -> f32 = {
            let half = _mm256_max_ps(
                _mm512_castps512_ps256(x),
                _mm512_extractf32x8_ps::<1>(x),
            );
            super::avx2::greatest_of_eight(half)
        };
    }
}
