//! Sixteen `f32` lanes, the same in every instruction set.
//!
//! A kernel is written once against [`Simd`] and compiled once per instruction set by
//! [`dispatch`]. A value of a type that implements [`Simd`] is the proof that the machine has
//! the instructions, so the operations are safe to call. Everything between `dispatch` and the
//! operations has to be `#[inline(always)]`: the instructions are known to be there only inside
//! the function that `dispatch` enters.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::isa::Isa;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// The memory of one vector: a cache line.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; LANES]);

/// The memory of one vector in half precision: half a cache line.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(32))]
pub(crate) struct HalfLine(pub(crate) [f16; LANES]);

impl Line {
    pub(crate) const ZERO: Line = Line([0.0; LANES]);
}

/// What can be read as sixteen lanes.
pub(crate) trait Lanes: Pod + Sync {
    /// Whether it is how the KV cache stores them, so that it comes from main memory.
    const STORED: bool;

    fn lanes<S: Simd>(&self, s: S) -> S::F;
}

impl Lanes for Line {
    const STORED: bool = false;

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S) -> S::F {
        s.load(&self.0)
    }
}

impl Lanes for HalfLine {
    const STORED: bool = true;

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S) -> S::F {
        s.load_half(&self.0)
    }
}

/// The operations on sixteen lanes.
pub(crate) trait Simd: Copy {
    /// Sixteen lanes.
    type F: Copy;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, from: &[f32; LANES]) -> Self::F;
    fn store(self, x: Self::F, to: &mut [f32; LANES]);
    fn load_half(self, from: &[f16; LANES]) -> Self::F;
    /// Rounds to nearest; what is too large becomes the largest finite value.
    fn store_half(self, x: Self::F, to: &mut [f16; LANES]);

    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once where the machine can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `b` unless `a < b` does not hold: a NaN in `b` stays.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `b` unless `a > b`: a NaN in `b` stays.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even; `|x| < 2^22`.
    fn round(self, x: Self::F) -> Self::F;
    /// `x · 2^n` for whole `n` from −252 to 254.
    fn scale(self, x: Self::F, n: Self::F) -> Self::F;
    /// `x` in the lanes whose bit is set, `other` in the rest.
    fn select(self, mask: u16, x: Self::F, other: Self::F) -> Self::F;
    /// The lanes where `a < b`.
    fn less(self, a: Self::F, b: Self::F) -> u16;

    /// Asks for the cache line at `address` to be brought nearer, if there is one.
    #[inline(always)]
    fn prefetch<T>(self, address: *const T) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a hint; it does not fail whatever the address is.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }

    /// The sum of all lanes, halves added to halves.
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        let mut lanes = Line::ZERO;
        self.store(x, &mut lanes.0);
        fold(lanes.0, |a, b| a + b)
    }

    /// The greatest lane; of lanes among which are NaNs, any.
    #[inline(always)]
    fn greatest(self, x: Self::F) -> f32 {
        let mut lanes = Line::ZERO;
        self.store(x, &mut lanes.0);
        fold(lanes.0, |a, b| if a > b { a } else { b })
    }

    /// At most sixteen values; lanes beyond them are 0.
    #[inline(always)]
    fn load_chunk(self, from: &[f32]) -> Self::F {
        if let Ok(from) = <&[f32; LANES]>::try_from(from) {
            return self.load(from);
        }
        let mut lanes = Line::ZERO;
        lanes.0[..from.len()].copy_from_slice(from);
        self.load(&lanes.0)
    }

    /// The first `to.len()` lanes, at most sixteen.
    #[inline(always)]
    fn store_chunk(self, x: Self::F, to: &mut [f32]) {
        if to.len() == LANES {
            if let Ok(to) = to.try_into() {
                self.store(x, to);
            }
            return;
        }
        let mut lanes = Line::ZERO;
        self.store(x, &mut lanes.0);
        to.copy_from_slice(&lanes.0[..to.len()]);
    }
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            lanes[i] = combine(lanes[i], lanes[i + n]);
        }
        n /= 2;
    }
    lanes[0]
}

/// A computation written against [`Simd`].
pub(crate) trait Kernel {
    /// What it gives back.
    type Output;
    /// Runs it; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` with the instructions of `isa`, or those the machine has if that is less.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    if isa == Isa::Avx512 {
        dispatch_wide(kernel)
    } else {
        dispatch_narrow(isa, kernel)
    }
}

/// [`dispatch`] for kernels that are only made for AVX-512, whose 32 registers allow larger
/// blocks.
pub(crate) fn dispatch_wide<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() == Isa::Avx512 {
        // SAFETY: the machine has AVX-512, as `detect` found.
        return unsafe { avx512::enter(kernel) };
    }
    kernel.run(portable::Portable)
}

/// [`dispatch`] for kernels that are only made for less than AVX-512.
pub(crate) fn dispatch_narrow<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 && Isa::detect() >= Isa::Avx2 {
        // SAFETY: the machine has AVX2, FMA and F16C, as `detect` found.
        return unsafe { avx2::enter(kernel) };
    }
    let _ = isa;
    kernel.run(portable::Portable)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    struct Probe;

    impl Kernel for Probe {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let a: [f32; LANES] = std::array::from_fn(|i| i as f32 * 1.25 - 7.0);
            let b: [f32; LANES] = std::array::from_fn(|i| 4.5 - i as f32 * 0.75);
            let (x, y) = (s.load(&a), s.load(&b));
            let check = |name: &str, got: S::F, want: &dyn Fn(f32, f32) -> f32| {
                let mut out = [0.0; LANES];
                s.store(got, &mut out);
                for i in 0..LANES {
                    assert_eq!(out[i], want(a[i], b[i]), "{name} lane {i}");
                }
            };
            check("add", s.add(x, y), &|a, b| a + b);
            check("sub", s.sub(x, y), &|a, b| a - b);
            check("mul", s.mul(x, y), &|a, b| a * b);
            check("div", s.div(x, y), &|a, b| a / b);
            check("fma", s.fma(x, y, x), &|a, b| a * b + a);
            check("min", s.min(x, y), &f32::min);
            check("max", s.max(x, y), &f32::max);
            check("round", s.round(x), &|a, _| a.round_ties_even());
            let n = s.splat(-130.0);
            check("scale", s.scale(x, n), &|a, _| {
                (f64::from(a) * 2f64.powi(-130)) as f32
            });
            let mask = s.less(x, y);
            check("select", s.select(mask, x, y), &f32::min);
            check("part", s.load_chunk(&a[..3]), &|v, _| {
                if v < a[3] { v } else { 0.0 }
            });
            assert_eq!(s.sum(x), a.iter().sum::<f32>());
            assert_eq!(s.greatest(y), 4.5);
            let nan = s.splat(f32::NAN);
            assert!(s.greatest(s.max(x, nan)).is_nan() && s.greatest(s.min(x, nan)).is_nan());
            let mut half = [f16::ZERO; LANES];
            s.store_half(s.mul(x, s.splat(1e5)), &mut half);
            assert_eq!((half[0], half[15]), (f16::MIN, f16::MAX));
            s.store_half(s.div(x, s.splat(3.0)), &mut half);
            check("half", s.load_half(&half), &|a, _| {
                f16::from_f32(a / 3.0).to_f32()
            });
            s.store_half(nan, &mut half);
            assert!(half[7].is_nan());
        }
    }

    #[test]
    fn every_instruction_set_computes_the_same() {
        for isa in Isa::available() {
            dispatch(isa, Probe);
        }
    }
}
