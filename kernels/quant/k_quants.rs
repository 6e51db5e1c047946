//! Super-blocks of 256 weights whose groups have integer scales of their own.
//!
//! ```text
//! Q4_K, Q5_K   8 groups of 32    w = (d · scale[g]) · q − (dmin · min[g])    6-bit scale, min
//! Q6_K         16 groups of 16   w = (d · scale[g]) · (q − 32)               8-bit signed scale
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, Half, SCALE_FLAW, bounds, extreme, inverse};

/// Weights in a super-block.
pub const SUPER_BLOCK: usize = 256;

/// The 6-bit scales and minima of the eight groups of [`BlockQ4K`] and [`BlockQ5K`].
///
/// Bytes 0–3 hold scales 0–3 and bytes 4–7 minima 0–3 in their low six bits; bytes 8–11 hold
/// the low four bits of scales 4–7 (low nibble) and minima 4–7 (high nibble), whose upper two
/// bits are the upper two of bytes 0–3 and 4–7.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct PackedScales(pub [u8; 12]);

impl PackedScales {
    /// `(scales, minima)` of the eight groups, each `0..=63`.
    #[inline]
    pub fn unpack(&self) -> ([u8; 8], [u8; 8]) {
        let b = &self.0;
        let scales = std::array::from_fn(|g| match g {
            0..4 => b[g] & 63,
            _ => (b[g + 4] & 15) | (b[g - 4] >> 6) << 4,
        });
        let minima = std::array::from_fn(|g| match g {
            0..4 => b[g + 4] & 63,
            _ => (b[g + 4] >> 4) | (b[g] >> 6) << 4,
        });
        (scales, minima)
    }

    /// The inverse of [`unpack`](Self::unpack).
    pub fn pack(scales: &[u8; 8], minima: &[u8; 8]) -> Self {
        Self(std::array::from_fn(|i| match i {
            0..4 => (scales[i] & 63) | (scales[i + 4] >> 4) << 6,
            4..8 => (minima[i - 4] & 63) | (minima[i] >> 4) << 6,
            _ => (scales[i - 4] & 15) | (minima[i - 4] & 15) << 4,
        }))
    }
}

/// Four bits. Of each 64 weights, the first 32 are low nibbles and the second 32 the high
/// nibbles of the same 32 bytes.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4K {
    /// Scale of the scales.
    pub d: Half,
    /// Scale of the minima.
    pub dmin: Half,
    /// Scales and minima of the groups.
    pub scales: PackedScales,
    /// Nibbles.
    pub qs: [u8; 128],
}

/// Five bits: nibbles as in [`BlockQ4K`]; bit `g` of byte `i` of `qh` is the fifth bit of
/// weight `i` of group `g`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5K {
    /// Scale of the scales.
    pub d: Half,
    /// Scale of the minima.
    pub dmin: Half,
    /// Scales and minima of the groups.
    pub scales: PackedScales,
    /// Fifth bits.
    pub qh: [u8; 32],
    /// Nibbles.
    pub qs: [u8; 128],
}

/// Six bits. Each 128 weights are four runs of 32: byte `i` of their 64 bytes of `ql` holds
/// the low four bits of weight `i` and, in the high nibble, of weight `i + 64`; byte `i` of
/// their 32 bytes of `qh` holds the upper two bits of weights `i`, `i + 32`, `i + 64` and
/// `i + 96` from the low end up.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low four bits.
    pub ql: [u8; 128],
    /// Upper two bits.
    pub qh: [u8; 64],
    /// Scales of the groups.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: Half,
}

/// Writes the groups of Q4_K and Q5_K, `q` giving weight `i` of group `g`.
#[inline]
fn dequantise_affine(
    (d, dmin, scales): (Half, Half, &PackedScales),
    q: impl Fn(usize, usize) -> u8,
    out: &mut [f32],
) {
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let (scales, minima) = scales.unpack();
    for (g, out) in out.chunks_exact_mut(32).enumerate() {
        let scale = d * f32::from(scales[g]);
        let min = dmin * f32::from(minima[g]);
        for (i, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(q(g, i)) - min;
        }
    }
}

/// Scales and integers `0..=levels` of Q4_K and Q5_K.
fn quantise_affine(values: &[f32], levels: f32) -> (Half, Half, PackedScales, [u8; SUPER_BLOCK]) {
    let ranges: [(f32, f32); 8] = std::array::from_fn(|g| {
        let (min, max) = bounds(&values[32 * g..32 * g + 32]);
        (max / levels - min / levels, -min)
    });
    let largest = |pick: fn(&(f32, f32)) -> f32| ranges.iter().map(pick).fold(0.0, f32::max);
    let d = Half::nearest_finite(largest(|r| r.0) / 63.0);
    let dmin = Half::nearest_finite(largest(|r| r.1) / 63.0);
    let six_bits = |x: f32, unit: Half| (x * inverse(unit.to_f32())).round().clamp(0.0, 63.0) as u8;
    let scales = ranges.map(|r| six_bits(r.0, d));
    let minima = ranges.map(|r| six_bits(r.1, dmin));
    let q = std::array::from_fn(|i| {
        let scale = d.to_f32() * f32::from(scales[i / 32]);
        let min = dmin.to_f32() * f32::from(minima[i / 32]);
        ((values[i] + min) * inverse(scale))
            .round()
            .clamp(0.0, levels) as u8
    });
    (d, dmin, PackedScales::pack(&scales, &minima), q)
}

/// The low nibbles of Q4_K and Q5_K: byte `i` of each 32 pairs groups `2c` and `2c + 1`.
fn pack_nibbles(q: &[u8; SUPER_BLOCK]) -> [u8; 128] {
    std::array::from_fn(|byte| {
        let first = byte / 32 * 64 + byte % 32;
        (q[first] & 15) | (q[first + 32] & 15) << 4
    })
}

#[inline]
fn nibble(qs: &[u8; 128], g: usize, i: usize) -> u8 {
    qs[g / 2 * 32 + i] >> (4 * (g % 2)) & 15
}

impl Block for BlockQ4K {
    const LEN: usize = SUPER_BLOCK;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite() & self.dmin.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let scales = (self.d, self.dmin, &self.scales);
        dequantise_affine(scales, |g, i| nibble(&self.qs, g, i), out);
    }

    fn quantise(values: &[f32]) -> Self {
        let (d, dmin, scales, q) = quantise_affine(values, 15.0);
        let qs = pack_nibbles(&q);
        Self {
            d,
            dmin,
            scales,
            qs,
        }
    }
}

impl Block for BlockQ5K {
    const LEN: usize = SUPER_BLOCK;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite() & self.dmin.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let scales = (self.d, self.dmin, &self.scales);
        let q = |g: usize, i: usize| nibble(&self.qs, g, i) | (self.qh[i] >> g & 1) << 4;
        dequantise_affine(scales, q, out);
    }

    fn quantise(values: &[f32]) -> Self {
        let (d, dmin, scales, q) = quantise_affine(values, 31.0);
        let qh =
            std::array::from_fn(|i| (0..8).fold(0, |bits, g| bits | (q[32 * g + i] >> 4) << g));
        let qs = pack_nibbles(&q);
        Self {
            d,
            dmin,
            scales,
            qh,
            qs,
        }
    }
}

impl Block for BlockQ6K {
    const LEN: usize = SUPER_BLOCK;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (run, out) in out.chunks_exact_mut(32).enumerate() {
            let (half, quarter) = (run / 4, run % 4);
            let ql = &self.ql[64 * half + 32 * (quarter % 2)..][..32];
            let qh = &self.qh[32 * half..][..32];
            for (i, out) in out.iter_mut().enumerate() {
                let low = ql[i] >> (4 * (quarter / 2)) & 15;
                let high = qh[i] >> (2 * quarter) & 3;
                let scale = d * f32::from(self.scales[2 * run + i / 16]);
                *out = scale * (i32::from(low | high << 4) - 32) as f32;
            }
        }
    }

    fn quantise(values: &[f32]) -> Self {
        let extremes: [f32; 16] = std::array::from_fn(|g| extreme(&values[16 * g..16 * g + 16]));
        let d = Half::nearest_finite(extreme(&extremes).abs() / 32.0 / 127.0);
        let scales = extremes.map(|x| {
            // The longer negative side of the integers takes the extreme.
            (x / -32.0 * inverse(d.to_f32()))
                .round()
                .clamp(-127.0, 127.0) as i8
        });
        let q: [u8; SUPER_BLOCK] = std::array::from_fn(|i| {
            let scale = d.to_f32() * f32::from(scales[i / 16]);
            (values[i] * inverse(scale) + 32.0).round().clamp(0.0, 63.0) as u8
        });
        let ql = std::array::from_fn(|byte| {
            let first = byte / 64 * 128 + byte % 64;
            (q[first] & 15) | (q[first + 64] & 15) << 4
        });
        let qh = std::array::from_fn(|byte| {
            let first = byte / 32 * 128 + byte % 32;
            (0..4).fold(0, |bits, run| {
                bits | (q[first + 32 * run] >> 4) << (2 * run)
            })
        });
        Self { ql, qh, scales, d }
    }
}
