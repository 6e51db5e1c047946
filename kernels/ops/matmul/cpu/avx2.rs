//! Microkernels of AVX2: 16 rows × up to 4 tokens, over expanded steps.
//!
//! `vpmaddubsw` adds two products of unsigned weights and signed activations in 16 bits, which
//! must not saturate: `2 · 127 · (2^bits − 1)` times the vectors added up before widening stays
//! below 2^15 for 8, 4 and 2 vectors of 4, 5 and 6 bits. Eight bits have their sign moved to the
//! activations, `|w| ≤ 128`, and are widened at once.

use std::arch::x86_64::*;

use super::activations::Meta;
use super::kernel::{Call, Kernel};
use super::plain::{expand_steps, finish, start};
use crate::cpu::tiles::{
    Expanded, FloatLanes, GROUP, QuantStep, Step, StepBf16, StepF8E4M3, StepF16, StepF32,
};

/// Rows of half a tile: a vector.
const ROWS: usize = 8;
/// Columns under one `Meta`.
const HALF: usize = GROUP / 2;

/// The kernels of a format of integers, over [`Expanded`] steps.
pub(super) const fn quant_kernels<S: QuantStep>() -> [Kernel; 4] {
    [quant::<S, 1>, quant::<S, 2>, quant::<S, 3>, quant::<S, 4>]
}

/// The kernels of a format of floats.
pub(super) const fn float_kernels<S: Columns>() -> [Kernel; 4] {
    [float::<S, 1>, float::<S, 2>, float::<S, 3>, float::<S, 4>]
}

/// See [`Expand`](super::kernel::Expand).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn expand<S: QuantStep>(steps: &[u8], out: &mut [Expanded]) {
    expand_steps::<S>(steps, out);
}

/// Eight rows of a column of a float tile.
pub(super) trait Columns: Step {
    /// Rows `ROWS * side ..` of column `col` of the step.
    ///
    /// # Safety
    /// The machine has AVX2 and F16C.
    unsafe fn column(&self, col: usize, side: usize) -> __m256;
}

impl Columns for StepF32 {
    #[inline(always)]
    unsafe fn column(&self, _col: usize, side: usize) -> __m256 {
        // SAFETY: eight of 16 values are read.
        unsafe { _mm256_loadu_ps(self.w.as_ptr().add(ROWS * side)) }
    }
}

impl Columns for StepF16 {
    #[inline(always)]
    unsafe fn column(&self, col: usize, side: usize) -> __m256 {
        // SAFETY: eight of 16 values are read.
        unsafe {
            let halves = self.w[col].as_ptr().add(ROWS * side);
            _mm256_cvtph_ps(_mm_loadu_si128(halves.cast()))
        }
    }
}

impl Columns for StepBf16 {
    #[inline(always)]
    unsafe fn column(&self, col: usize, side: usize) -> __m256 {
        // SAFETY: eight of 16 values are read.
        unsafe {
            let pairs = _mm256_loadu_si256(self.pairs.as_ptr().add(ROWS * side).cast());
            _mm256_castsi256_ps(match col {
                0 => _mm256_slli_epi32::<16>(pairs),
                _ => _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32)),
            })
        }
    }
}

impl Columns for StepF8E4M3 {
    #[inline(always)]
    unsafe fn column(&self, col: usize, side: usize) -> __m256 {
        // SAFETY: eight of 16 bytes are read.
        unsafe {
            let bytes = _mm_loadl_epi64(self.w[col].as_ptr().add(ROWS * side).cast());
            // As halves the exponent's bias is 15 instead of 7: values are 2^-8 of what they are.
            let words = _mm_cvtepi8_epi16(bytes);
            let sign = _mm_and_si128(words, _mm_set1_epi16(i16::MIN));
            let magnitude = _mm_slli_epi16::<7>(_mm_and_si128(words, _mm_set1_epi16(0x7f)));
            let nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7f << 7));
            let nan = _mm256_castsi256_ps(_mm256_cvtepi16_epi32(nan));
            let finite = _mm256_cvtph_ps(_mm_or_si128(sign, magnitude));
            // All bits of a NaN's lane become ones, which is a NaN.
            _mm256_or_ps(_mm256_mul_ps(finite, _mm256_set1_ps(256.0)), nan)
        }
    }
}

/// See [`Kernel`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float<S: Columns, const N: usize>(call: &Call) {
    // SAFETY: the caller vouches for the instructions and for the call's pointers, which
    // advance here by exactly its steps.
    unsafe {
        let mut out: [FloatLanes; N] = std::array::from_fn(|t| start(call, t));
        let mut acc = [[_mm256_setzero_ps(); 2]; N];
        for t in 0..N {
            acc[t][0] = _mm256_loadu_ps(out[t].as_ptr());
            acc[t][1] = _mm256_loadu_ps(out[t].as_ptr().add(ROWS));
        }
        let mut acts = call.acts;
        for index in 0..call.n_steps {
            let step = &*call.steps.cast::<S>().add(index);
            for col in 0..S::COLS {
                let (w0, w1) = (step.column(col, 0), step.column(col, 1));
                for (t, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(acts.cast::<f32>().add(t).read());
                    acc[0] = _mm256_fmadd_ps(w0, x, acc[0]);
                    acc[1] = _mm256_fmadd_ps(w1, x, acc[1]);
                }
                acts = acts.add(call.unit_stride);
            }
        }
        for t in 0..N {
            _mm256_storeu_ps(out[t].as_mut_ptr(), acc[t][0]);
            _mm256_storeu_ps(out[t].as_mut_ptr().add(ROWS), acc[t][1]);
            finish(call, t, &out[t]);
        }
    }
}

/// See [`Kernel`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quant<S: QuantStep, const N: usize>(call: &Call) {
    // SAFETY: the caller vouches for the instructions and the call's pointers.
    unsafe {
        let mut acc: [FloatLanes; N] = std::array::from_fn(|t| start(call, t));
        for side in 0..2 {
            rows::<S, N>(call, side, &mut acc);
        }
        for (t, acc) in acc.iter().enumerate() {
            finish(call, t, acc);
        }
    }
}

/// Eight rows of the tile.
#[inline(always)]
unsafe fn rows<S: QuantStep, const N: usize>(call: &Call, side: usize, out: &mut [FloatLanes; N]) {
    // SAFETY: as for `quant`; pointers advance by exactly the call's steps.
    unsafe {
        let mut acc = [_mm256_setzero_ps(); N];
        for t in 0..N {
            acc[t] = _mm256_loadu_ps(out[t].as_ptr().add(ROWS * side));
        }
        let (mut acts, mut meta) = (call.acts, call.meta);
        for index in 0..call.n_steps {
            let group = &*call.steps.cast::<Expanded>().add(index);
            for half in 0..2 {
                let block = Block {
                    group,
                    side,
                    half,
                    acts,
                    meta,
                };
                block.add::<S, N>(&mut acc);
                acts = acts.add(call.unit_stride);
                meta = meta.byte_add(call.unit_stride);
            }
        }
        for t in 0..N {
            _mm256_storeu_ps(out[t].as_mut_ptr().add(ROWS * side), acc[t]);
        }
    }
}

/// 8 rows × 32 columns and the activations they meet.
struct Block<'a> {
    group: &'a Expanded,
    side: usize,
    half: usize,
    acts: *const u8,
    meta: *const Meta,
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn lanes(&self, lanes: &FloatLanes) -> __m256 {
        // SAFETY: eight of 16 values are read.
        unsafe { _mm256_loadu_ps(lanes.as_ptr().add(ROWS * self.side)) }
    }

    #[inline(always)]
    unsafe fn add<S: QuantStep, const N: usize>(&self, acc: &mut [__m256; N]) {
        // SAFETY: as for `quant`.
        unsafe {
            let n_scales = HALF / S::SCALE_COLS;
            for part in 0..n_scales {
                let sums = self.sums::<S, N>(part);
                let scale = self.lanes(&self.group.scales[self.half * n_scales + part]);
                for t in 0..N {
                    let scale = _mm256_mul_ps(scale, _mm256_set1_ps((*self.meta.add(t)).scale));
                    acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), scale, acc[t]);
                }
            }
            if S::HAS_MINS {
                let min = self.lanes(&self.group.mins[self.half]);
                for (t, acc) in acc.iter_mut().enumerate() {
                    let sum = _mm256_set1_ps((*self.meta.add(t)).scaled_sum);
                    *acc = _mm256_fnmadd_ps(min, sum, *acc);
                }
            }
        }
    }

    /// The integer sums under one scale.
    #[inline(always)]
    unsafe fn sums<S: QuantStep, const N: usize>(&self, part: usize) -> [__m256i; N] {
        // SAFETY: as for `quant`.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); N];
            // Signed weights carry no offset.
            if S::OFFSET != 0 && S::BITS != 8 {
                for (t, sum) in sums.iter_mut().enumerate() {
                    let meta = &*self.meta.add(t);
                    let minus_sum = match S::SCALE_COLS {
                        HALF => meta.minus_sum,
                        _ => meta.minus_half_sums[part],
                    };
                    *sum = _mm256_set1_epi32(i32::from(S::OFFSET) * minus_sum);
                }
            }
            let span = match S::BITS {
                4 => 8,
                5 => 4,
                6 => 2,
                _ => 1,
            };
            let ones = _mm256_set1_epi16(1);
            let first = part * S::SCALE_COLS / 4;
            for fours in (first..first + S::SCALE_COLS / 4).step_by(span) {
                let mut pairs = [_mm256_setzero_si256(); N];
                for four in fours..fours + span {
                    self.add_pairs::<S, N>(four, &mut pairs);
                }
                for t in 0..N {
                    sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(pairs[t], ones));
                }
            }
            sums
        }
    }

    /// Adds the products of four columns, in pairs.
    #[inline(always)]
    unsafe fn add_pairs<S: QuantStep, const N: usize>(
        &self,
        four: usize,
        pairs: &mut [__m256i; N],
    ) {
        // SAFETY: as for `quant`; activations of a token are 32 bytes, aligned to 4.
        unsafe {
            let q = &self.group.q[8 * self.half + four];
            let mut w = _mm256_load_si256(q.as_ptr().add(4 * ROWS * self.side).cast());
            if S::BITS == 8 {
                w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
            }
            let magnitude = if S::BITS == 8 { _mm256_abs_epi8(w) } else { w };
            for (t, pairs) in pairs.iter_mut().enumerate() {
                let acts = self.acts.add(HALF * t + 4 * four).cast::<i32>().read();
                let mut acts = _mm256_set1_epi32(acts);
                if S::BITS == 8 {
                    acts = _mm256_sign_epi8(acts, w);
                }
                *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(magnitude, acts));
            }
        }
    }
}
