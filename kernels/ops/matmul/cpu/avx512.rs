//! Integer microkernels of AVX-512 VNNI: 16 rows × up to 12 tokens.
//!
//! A vector of weights is unpacked once into unsigned bytes and multiplied with each token's
//! activations by `vpdpbusd`, whose memory operand broadcasts four of them to all rows. Twelve
//! integer and twelve float accumulators fill the registers. The weights' offset costs nothing:
//! the integer sums begin at `−offset · Σ q` of the activations.

use std::arch::x86_64::*;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

use super::activations::Meta;
use super::avx512_unpack::Unpack;
use super::kernel::{Call, Kernel};
use crate::cpu::tiles::{Expanded, GROUP, QuantStep, StepQ6K};

pub(super) use super::avx512_unpack::ExpandedQ6K;

/// The kernels of a format of 32-column scales.
pub(super) const fn kernels<U: Unpack>() -> [Kernel; 12] {
    [
        kernel::<U, 1>,
        kernel::<U, 2>,
        kernel::<U, 3>,
        kernel::<U, 4>,
        kernel::<U, 5>,
        kernel::<U, 6>,
        kernel::<U, 7>,
        kernel::<U, 8>,
        kernel::<U, 9>,
        kernel::<U, 10>,
        kernel::<U, 11>,
        kernel::<U, 12>,
    ]
}

/// The kernels of 16-column scales, which need a third register a token.
pub(super) const fn six_bit_kernels<U: Unpack>() -> [Kernel; 8] {
    [
        kernel::<U, 1>,
        kernel::<U, 2>,
        kernel::<U, 3>,
        kernel::<U, 4>,
        kernel::<U, 5>,
        kernel::<U, 6>,
        kernel::<U, 7>,
        kernel::<U, 8>,
    ]
}

/// See [`Expand`](super::kernel::Expand). The kernels' own unpacking, so the same values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn expand_q6k(steps: &[u8], out: &mut [Expanded]) {
    let steps: &[StepQ6K] = bytemuck::cast_slice(steps);
    for (step, groups) in steps.iter().zip(out.as_chunks_mut::<4>().0) {
        for (index, group) in groups.iter_mut().enumerate() {
            // SAFETY: the caller vouches for the instructions; every store is 64 bytes to an
            // array of 64 bytes, aligned to them.
            unsafe {
                let scales = step.scales(&(), index);
                _mm512_store_ps(group.scales[0].as_mut_ptr(), scales[0]);
                _mm512_store_ps(group.scales[1].as_mut_ptr(), scales[1]);
                _mm512_store_ps(group.scales[2].as_mut_ptr(), scales[2]);
                _mm512_store_ps(group.scales[3].as_mut_ptr(), scales[3]);
                store_vectors::<0>(step, index, group);
                store_vectors::<4>(step, index, group);
                store_vectors::<8>(step, index, group);
                store_vectors::<12>(step, index, group);
            }
        }
    }
}

/// Unpacks four vectors of a group.
#[inline(always)]
unsafe fn store_vectors<const FIRST: usize>(step: &StepQ6K, index: usize, group: &mut Expanded) {
    // SAFETY: as for `expand_q6k`.
    unsafe {
        let q = group.q.as_mut_ptr().cast::<__m512i>();
        _mm512_store_si512(q.add(FIRST), step.vector(index, FIRST));
        _mm512_store_si512(q.add(FIRST + 1), step.vector(index, FIRST + 1));
        _mm512_store_si512(q.add(FIRST + 2), step.vector(index, FIRST + 2));
        _mm512_store_si512(q.add(FIRST + 3), step.vector(index, FIRST + 3));
    }
}

/// See [`Kernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn kernel<U: Unpack, const N: usize>(call: &Call) {
    // SAFETY: the caller vouches for the instructions and for the call's pointers, which advance
    // here by exactly its steps.
    unsafe {
        let mut acc = start::<N>(call);
        let (mut acts, mut meta) = (call.acts, call.meta);
        for index in 0..call.n_steps {
            let step = &*call.steps.cast::<U>().add(index);
            let header = step.header();
            for group in 0..U::COLS / GROUP {
                let scales = step.scales(&header, group);
                let mins = step.mins(&header, group);
                // Written out, not a loop: which half it is decides shifts and addresses. The
                // fences are no instructions: they keep the compiler from beginning one half's
                // integer sums beside the other's, for which there are no registers.
                Block {
                    step,
                    group,
                    half: 0,
                    acts,
                    meta,
                }
                .add(&mut acc, &scales, &mins);
                compiler_fence(SeqCst);
                acts = acts.add(call.unit_stride);
                meta = meta.byte_add(call.unit_stride);
                Block {
                    step,
                    group,
                    half: 1,
                    acts,
                    meta,
                }
                .add(&mut acc, &scales, &mins);
                compiler_fence(SeqCst);
                acts = acts.add(call.unit_stride);
                meta = meta.byte_add(call.unit_stride);
            }
        }
        finish(call, acc);
    }
}

/// The accumulators at the beginning of a call.
#[inline(always)]
pub(super) unsafe fn start<const N: usize>(call: &Call) -> [__m512; N] {
    // SAFETY: as for `kernel`; masks keep to the rows that the tile has.
    unsafe {
        let mask = row_mask(call);
        let mut acc = [_mm512_setzero_ps(); N];
        if !call.bias.is_null() {
            acc = [_mm512_maskz_loadu_ps(mask, call.bias); N];
        }
        if call.resume {
            for (t, acc) in acc.iter_mut().enumerate() {
                let out = call.out.add(t * call.out_stride);
                *acc = _mm512_add_ps(*acc, _mm512_maskz_loadu_ps(mask, out));
            }
        }
        acc
    }
}

/// Stores the accumulators.
#[inline(always)]
pub(super) unsafe fn finish<const N: usize>(call: &Call, acc: [__m512; N]) {
    // SAFETY: as for `start`.
    unsafe {
        let mask = row_mask(call);
        for (t, acc) in acc.into_iter().enumerate() {
            _mm512_mask_storeu_ps(call.out.add(t * call.out_stride), mask, acc);
        }
    }
}

fn row_mask(call: &Call) -> __mmask16 {
    u16::MAX >> (16 - call.n_rows)
}

/// 32 columns of a tile and the activations they meet.
struct Block<'a, U> {
    step: &'a U,
    group: usize,
    half: usize,
    acts: *const u8,
    meta: *const Meta,
}

impl<U: Unpack> Block<'_, U> {
    /// Adds 32 columns.
    #[inline(always)]
    unsafe fn add<const N: usize>(
        &self,
        acc: &mut [__m512; N],
        scales: &[__m512; 4],
        mins: &[__m512; 2],
    ) {
        // SAFETY: as for `kernel`.
        unsafe {
            if U::Source::SCALE_COLS == 32 {
                self.add_by_32(acc, scales[self.half], mins[self.half]);
            } else {
                self.add_by_16(acc, [scales[2 * self.half], scales[2 * self.half + 1]]);
            }
        }
    }

    /// Adds 32 columns under one scale.
    #[inline(always)]
    unsafe fn add_by_32<const N: usize>(&self, acc: &mut [__m512; N], scale: __m512, min: __m512) {
        // SAFETY: as for `kernel`.
        unsafe {
            let mut sums = [_mm512_setzero_si512(); N];
            if U::Source::OFFSET != 0 {
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = offset::<U>((*self.meta.add(t)).minus_sum);
                }
            }
            if N <= 4 {
                // Two chains: few tokens wait for latency, not for the multipliers.
                let mut second = [_mm512_setzero_si512(); N];
                self.dot_16(&mut sums, 0);
                self.dot_16(&mut second, 1);
                for (sum, second) in sums.iter_mut().zip(second) {
                    *sum = _mm512_add_epi32(*sum, second);
                }
            } else {
                self.dot_16(&mut sums, 0);
                self.dot_16(&mut sums, 1);
            }
            for t in 0..N {
                let meta = &*self.meta.add(t);
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(meta.scale));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scale, acc[t]);
                if U::Source::HAS_MINS {
                    let sum = _mm512_set1_ps(meta.scaled_sum);
                    acc[t] = _mm512_fnmadd_ps(min, sum, acc[t]);
                }
            }
        }
    }

    /// Adds 32 columns under two scales.
    #[inline(always)]
    unsafe fn add_by_16<const N: usize>(&self, acc: &mut [__m512; N], scales: [__m512; 2]) {
        // SAFETY: as for `kernel`.
        unsafe {
            let mut sums = [_mm512_setzero_si512(); N];
            let mut first = [_mm512_setzero_ps(); N];
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = offset::<U>((*self.meta.add(t)).minus_half_sums[0]);
            }
            self.dot_16(&mut sums, 0);
            for t in 0..N {
                first[t] = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[t]), scales[0]);
                sums[t] = offset::<U>((*self.meta.add(t)).minus_half_sums[1]);
            }
            self.dot_16(&mut sums, 1);
            for t in 0..N {
                let both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), scales[1], first[t]);
                let scale = _mm512_set1_ps((*self.meta.add(t)).scale);
                acc[t] = _mm512_fmadd_ps(both, scale, acc[t]);
            }
        }
    }

    /// Adds the products of one 16 of the 32 columns.
    #[inline(always)]
    unsafe fn dot_16<const N: usize>(&self, sums: &mut [__m512i; N], sixteen: usize) {
        // SAFETY: as for `kernel`.
        unsafe {
            self.dot_4(sums, 4 * sixteen);
            self.dot_4(sums, 4 * sixteen + 1);
            self.dot_4(sums, 4 * sixteen + 2);
            self.dot_4(sums, 4 * sixteen + 3);
        }
    }

    /// Adds the products of four columns.
    #[inline(always)]
    unsafe fn dot_4<const N: usize>(&self, sums: &mut [__m512i; N], four: usize) {
        // SAFETY: as for `kernel`; activations of a token are 32 bytes, aligned to 4.
        unsafe {
            let weights = self.step.vector(self.group, 8 * self.half + four);
            for (t, sum) in sums.iter_mut().enumerate() {
                let acts = self.acts.add(32 * t + 4 * four).cast::<i32>().read();
                *sum = _mm512_dpbusd_epi32(*sum, weights, _mm512_set1_epi32(acts));
            }
        }
    }
}

/// `offset · minus_sum`: offsets are powers of two, and a shift can broadcast from memory.
#[inline(always)]
unsafe fn offset<U: Unpack>(minus_sum: i32) -> __m512i {
    // SAFETY: as for `kernel`.
    unsafe {
        let count = _mm_cvtsi32_si128(U::Source::OFFSET.trailing_zeros() as i32);
        _mm512_sll_epi32(_mm512_set1_epi32(minus_sum), count)
    }
}
