//! Functions on sixteen lanes: the exponential and what is made of it.

use super::simd::Simd;

/// Below this the exponential is 0 in `f32`, subnormals included.
const EXP_MIN: f32 = -104.0;
/// Above this the exponential is not finite in `f32`.
const EXP_MAX: f32 = 88.72;
/// ln 2 in two parts; products of the first with whole numbers up to 2^15 are exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// `(e^r − 1 − r) / r²` on |r| ≤ ln 2 / 2, greatest relative error of e^r 3.1e-9.
const EXP_TAIL: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    0.041_668_39,
    0.008_368_745,
    0.001_381_454,
];
/// `(tanh x − x) / x³` as a polynomial of x² on |x| ≤ 0.625, greatest error of tanh 4.2e-9.
const TANH_TAIL: [f32; 5] = [
    -0.333_332_84,
    0.133_314_91,
    -0.053_743_497,
    0.020_650_588,
    -0.005_717_045,
];
/// Where [`tanh`] goes over from the polynomial to the exponential.
const TANH_SMALL: f32 = 0.625;

/// `c[0] + c[1] x + …`
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F, c: [f32; N]) -> S::F {
    let mut sum = s.splat(c[N - 1]);
    for &c in c[..N - 1].iter().rev() {
        sum = s.fma(sum, x, s.splat(c));
    }
    sum
}

/// `e^x` within 1 ulp; 0 below −104, the value at 88.72 above it, NaN for NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.max(s.splat(EXP_MIN), s.min(s.splat(EXP_MAX), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN_2_HIGH), x);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let tail = s.mul(s.mul(r, r), polynomial(s, r, EXP_TAIL));
    s.scale(s.add(s.splat(1.0), s.add(r, tail)), n)
}

/// `tanh x` within 2 ulp.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let square = s.mul(x, x);
    let small = s.fma(s.mul(x, square), polynomial(s, square, TANH_TAIL), x);
    // 1 − 2 / (e^2x + 1): no cancellation where |x| is not small, and ±1 at both ends.
    let exponential = exp(s, s.add(x, x));
    let one = s.splat(1.0);
    let large = s.sub(one, s.div(s.splat(2.0), s.add(exponential, one)));
    s.select(
        s.less(square, s.splat(TANH_SMALL * TANH_SMALL)),
        small,
        large,
    )
}

/// `x / (1 + e^−x)`.
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    let exponential = exp(s, s.sub(s.splat(0.0), x));
    s.div(x, s.add(s.splat(1.0), exponential))
}

/// `x/2 · (1 + tanh u)` with `u = √(2/π) · (x + 0.044715 x³)`, computed as `x / (1 + e^−2u)`:
/// the same function, without cancellation where tanh is near −1.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    const MINUS_2_SQRT_2_OVER_PI: f32 = -1.595_769;
    let cubic = s.fma(s.mul(x, x), s.splat(0.044_715), s.splat(1.0));
    let minus_2u = s.mul(s.mul(x, cubic), s.splat(MINUS_2_SQRT_2_OVER_PI));
    s.div(x, s.add(s.splat(1.0), exp(s, minus_2u)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::isa::Isa;
    use crate::cpu::simd::{Kernel, dispatch};

    /// The greatest relative error of each function over a grid; values below 1e-30, where a
    /// gate is shut anyway, are held to 1e-30 times the bound.
    struct Errors;

    impl Kernel for Errors {
        type Output = [f64; 4];

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f64; 4] {
            let mut worst = [0f64; 4];
            for step in 0..200_000 {
                let x = (step as f32 - 100_000.0) * 8.7e-4;
                let v = s.splat(x);
                let got = [exp(s, v), tanh(s, v), silu(s, v), gelu_tanh(s, v)];
                let x = f64::from(x);
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                let want = [
                    x.exp(),
                    x.tanh(),
                    x / (1.0 + (-x).exp()),
                    x / (1.0 + (-2.0 * u).exp()),
                ];
                // Rounding the exponent 2u costs its own size in units of the last place.
                let allowance = [1.0, 1.0, 1.0, 1.0 + (2.0 * u).abs()];
                for (i, (got, want)) in got.into_iter().zip(want).enumerate() {
                    let mut lanes = [0f32; 16];
                    s.store(got, &mut lanes);
                    let error = (f64::from(lanes[5]) - want).abs();
                    worst[i] = worst[i].max(error / want.abs().max(1e-30) / allowance[i]);
                }
            }
            assert_eq!(s.sum(exp(s, s.splat(f32::NEG_INFINITY))), 0.0);
            assert!(s.sum(exp(s, s.splat(f32::NAN))).is_nan());
            worst
        }
    }

    #[test]
    fn errors_stay_within_their_bounds() {
        for isa in Isa::available() {
            let [exp, tanh, silu, gelu] = dispatch(isa, Errors);
            assert!(exp < 1.2e-7, "{isa:?} exp {exp:e}");
            assert!(tanh < 2.4e-7, "{isa:?} tanh {tanh:e}");
            assert!(silu < 3e-7, "{isa:?} silu {silu:e}");
            assert!(gelu < 3e-7, "{isa:?} gelu {gelu:e}");
        }
    }
}
