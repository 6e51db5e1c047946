//! Float microkernels of AVX-512: 16 rows × up to 12 tokens.
//!
//! One accumulator a token: even alone its chain of multiply-adds keeps up with memory.

use std::arch::x86_64::*;

use super::avx512::{finish, start};
use super::kernel::{Call, Kernel};
use crate::cpu::tiles::{Step, StepBf16, StepF8E4M3, StepF16, StepF32};

/// A column of a tile as floats.
pub(super) trait Columns: Step {
    /// Column `col` of the step.
    ///
    /// # Safety
    /// The machine has AVX-512 F.
    unsafe fn column(&self, col: usize) -> __m512;
}

impl Columns for StepF32 {
    #[inline(always)]
    unsafe fn column(&self, _col: usize) -> __m512 {
        // SAFETY: a step is 64 bytes.
        unsafe { _mm512_loadu_ps(self.w.as_ptr()) }
    }
}

impl Columns for StepF16 {
    #[inline(always)]
    unsafe fn column(&self, col: usize) -> __m512 {
        // SAFETY: half a step is 32 bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(self.w[col].as_ptr().cast())) }
    }
}

impl Columns for StepBf16 {
    #[inline(always)]
    unsafe fn column(&self, col: usize) -> __m512 {
        // SAFETY: a step is 64 bytes.
        unsafe {
            let pairs = _mm512_loadu_si512(self.pairs.as_ptr().cast());
            _mm512_castsi512_ps(match col {
                0 => _mm512_slli_epi32::<16>(pairs),
                _ => _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32)),
            })
        }
    }
}

impl Columns for StepF8E4M3 {
    #[inline(always)]
    unsafe fn column(&self, col: usize) -> __m512 {
        // SAFETY: a quarter of a step is 16 bytes.
        unsafe {
            let bytes = _mm_loadu_si128(self.w[col].as_ptr().cast());
            // As halves the exponent's bias is 15 instead of 7: values are 2^-8 of what they are.
            let words = _mm256_cvtepi8_epi16(bytes);
            let sign = _mm256_and_si256(words, _mm256_set1_epi16(i16::MIN));
            let magnitude = _mm256_and_si256(words, _mm256_set1_epi16(0x7f));
            let nan = _mm256_cmpeq_epi16_mask(magnitude, _mm256_set1_epi16(0x7f));
            let halves = _mm256_or_si256(sign, _mm256_slli_epi16::<7>(magnitude));
            let finite = _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(256.0));
            _mm512_mask_mov_ps(finite, nan, _mm512_set1_ps(f32::NAN))
        }
    }
}

macro_rules! all {
    ($kernel:ident $(, $step:ty)?) => {
        [
            $kernel::<$($step,)? 1>,
            $kernel::<$($step,)? 2>,
            $kernel::<$($step,)? 3>,
            $kernel::<$($step,)? 4>,
            $kernel::<$($step,)? 5>,
            $kernel::<$($step,)? 6>,
            $kernel::<$($step,)? 7>,
            $kernel::<$($step,)? 8>,
            $kernel::<$($step,)? 9>,
            $kernel::<$($step,)? 10>,
            $kernel::<$($step,)? 11>,
            $kernel::<$($step,)? 12>,
        ]
    };
}

/// The kernels of a format for f32 activations.
pub(super) const fn kernels<S: Columns>() -> [Kernel; 12] {
    all!(kernel, S)
}

/// The kernels of BF16 weights for bf16 activations, on machines that multiply them.
pub(super) const fn bf16_kernels() -> [Kernel; 12] {
    all!(bf16_kernel)
}

/// See [`Kernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn kernel<S: Columns, const N: usize>(call: &Call) {
    // SAFETY: the caller vouches for the instructions and for the call's pointers.
    unsafe {
        let mut acc = start::<N>(call);
        let mut acts = call.acts;
        for index in 0..call.n_steps {
            let step = &*call.steps.cast::<S>().add(index);
            for col in 0..S::COLS {
                let w = step.column(col);
                for (t, acc) in acc.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(acts.cast::<f32>().add(t).read());
                    *acc = _mm512_fmadd_ps(w, x, *acc);
                }
                acts = acts.add(call.unit_stride);
            }
        }
        finish(call, acc);
    }
}

/// See [`Kernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn bf16_kernel<const N: usize>(call: &Call) {
    // SAFETY: the caller vouches for the instructions and for the call's pointers; any 64 bytes
    // are a vector of bf16.
    unsafe {
        let mut acc = start::<N>(call);
        let mut acts = call.acts;
        for index in 0..call.n_steps {
            let step = &*call.steps.cast::<StepBf16>().add(index);
            let pairs = _mm512_loadu_si512(step.pairs.as_ptr().cast());
            let w = std::mem::transmute::<__m512i, __m512bh>(pairs);
            for (t, acc) in acc.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(acts.cast::<i32>().add(t).read());
                *acc = _mm512_dpbf16_ps(*acc, w, std::mem::transmute::<__m512i, __m512bh>(x));
            }
            acts = acts.add(call.unit_stride);
        }
        finish(call, acc);
    }
}
