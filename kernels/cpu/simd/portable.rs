//! Sixteen lanes as an array; the compiler makes of it what the target has.

use half::f16;

use super::{LANES, Simd};

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type Lanes = [f32; LANES];

#[inline(always)]
fn map2(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// `2^n` for `n` from −126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

impl Simd for Portable {
    type F = Lanes;

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    #[inline(always)]
    fn store(self, x: Lanes, to: &mut Lanes) {
        *to = x;
    }

    #[inline(always)]
    fn load_half(self, from: &[f16; LANES]) -> Lanes {
        from.map(f16::to_f32)
    }

    #[inline(always)]
    fn store_half(self, x: Lanes, to: &mut [f16; LANES]) {
        let limit = f16::MAX.to_f32_const();
        *to = x.map(|x| f16::from_f32(x.clamp(-limit, limit)));
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        map2(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        map2(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        map2(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        map2(a, b, |a, b| a / b)
    }

    /// Rounded twice: without the instruction, rounding once is a call per lane.
    #[inline(always)]
    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        map2(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        map2(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round(self, x: Lanes) -> Lanes {
        // Adding 1.5 · 2^23 leaves no room for a fraction.
        const NO_FRACTION: f32 = 12_582_912.0;
        x.map(|x| (x + NO_FRACTION) - NO_FRACTION)
    }

    #[inline(always)]
    fn scale(self, x: Lanes, n: Lanes) -> Lanes {
        map2(x, n, |x, n| {
            let n = n as i32;
            let half = n >> 1;
            x * power_of_two(half) * power_of_two(n - half)
        })
    }

    #[inline(always)]
    fn select(self, mask: u16, x: Lanes, other: Lanes) -> Lanes {
        std::array::from_fn(|i| if mask >> i & 1 == 1 { x[i] } else { other[i] })
    }

    #[inline(always)]
    fn less(self, a: Lanes, b: Lanes) -> u16 {
        (0..LANES).fold(0, |mask, i| mask | u16::from(a[i] < b[i]) << i)
    }
}
