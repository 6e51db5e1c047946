//! Blocks of 32 weights with one scale, and for the `_1` formats one minimum.
//!
//! ```text
//! Q4_0, Q5_0, Q8_0   w = d · (q − offset)        offset 8, 16, 0
//! Q4_1, Q5_1         w = d · q + m
//! ```
//!
//! Byte `i` of 16 holds the low four bits of weights `i` (low nibble) and `i + 16` (high
//! nibble); bit `i` of the 32 in `qh` is the fifth bit of weight `i`.

use bytemuck::{Pod, Zeroable};

use super::{Block, Half, SCALE_FLAW, bounds, extreme, inverse};

/// Four bits, symmetric: `w = d · (q − 8)`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: Half,
    /// Nibbles.
    pub qs: [u8; 16],
}

/// Four bits and a minimum: `w = d · q + m`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: Half,
    /// Minimum.
    pub m: Half,
    /// Nibbles.
    pub qs: [u8; 16],
}

/// Five bits, symmetric: `w = d · (q − 16)`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: Half,
    /// Fifth bits.
    pub qh: [u8; 4],
    /// Nibbles.
    pub qs: [u8; 16],
}

/// Five bits and a minimum: `w = d · q + m`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: Half,
    /// Minimum.
    pub m: Half,
    /// Fifth bits.
    pub qh: [u8; 4],
    /// Nibbles.
    pub qs: [u8; 16],
}

/// Signed bytes: `w = d · q`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: Half,
    /// Weights.
    pub qs: [i8; 32],
}

/// The 32 unsigned integers of nibbles and, for five bits, their fifth bits.
#[inline]
fn unpack(qs: &[u8; 16], qh: [u8; 4]) -> [i32; 32] {
    let qh = u32::from_le_bytes(qh);
    std::array::from_fn(|i| {
        let nibble = if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 };
        i32::from(nibble) | ((qh >> i & 1) << 4) as i32
    })
}

/// The inverse of [`unpack`].
fn pack(q: &[u8; 32]) -> ([u8; 16], [u8; 4]) {
    let qs = std::array::from_fn(|i| (q[i] & 15) | (q[i + 16] & 15) << 4);
    let qh = (0..32).fold(0, |bits, i| bits | u32::from(q[i] >> 4 & 1) << i);
    (qs, qh.to_le_bytes())
}

/// Scale and integers `0..=2·offset − 1` of a symmetric format. The value furthest from zero
/// becomes integer 0, so that the longer negative side is used.
fn symmetric(values: &[f32], offset: f32) -> (Half, [u8; 32]) {
    let d = Half::nearest_finite(extreme(values) / -offset);
    let inverse = inverse(d.to_f32());
    let q = std::array::from_fn(|i| {
        (values[i] * inverse + offset)
            .round()
            .clamp(0.0, 2.0 * offset - 1.0) as u8
    });
    (d, q)
}

/// Scale, minimum and integers `0..=levels` of a format with a minimum.
fn affine(values: &[f32], levels: f32) -> (Half, Half, [u8; 32]) {
    let (min, max) = bounds(values);
    let m = Half::nearest_finite(min);
    let d = Half::nearest_finite((max - m.to_f32()) / levels);
    let inverse = inverse(d.to_f32());
    let q = std::array::from_fn(|i| {
        ((values[i] - m.to_f32()) * inverse)
            .round()
            .clamp(0.0, levels) as u8
    });
    (d, m, q)
}

impl Block for BlockQ4_0 {
    const LEN: usize = 32;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(unpack(&self.qs, [0; 4])) {
            *out = d * (q - 8) as f32;
        }
    }

    fn quantise(values: &[f32]) -> Self {
        let (d, q) = symmetric(values, 8.0);
        let (qs, _) = pack(&q);
        Self { d, qs }
    }
}

impl Block for BlockQ4_1 {
    const LEN: usize = 32;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite() & self.m.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (out, q) in out.iter_mut().zip(unpack(&self.qs, [0; 4])) {
            *out = d * q as f32 + m;
        }
    }

    fn quantise(values: &[f32]) -> Self {
        let (d, m, q) = affine(values, 15.0);
        let (qs, _) = pack(&q);
        Self { d, m, qs }
    }
}

impl Block for BlockQ5_0 {
    const LEN: usize = 32;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(unpack(&self.qs, self.qh)) {
            *out = d * (q - 16) as f32;
        }
    }

    fn quantise(values: &[f32]) -> Self {
        let (d, q) = symmetric(values, 16.0);
        let (qs, qh) = pack(&q);
        Self { d, qh, qs }
    }
}

impl Block for BlockQ5_1 {
    const LEN: usize = 32;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite() & self.m.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        for (out, q) in out.iter_mut().zip(unpack(&self.qs, self.qh)) {
            *out = d * q as f32 + m;
        }
    }

    fn quantise(values: &[f32]) -> Self {
        let (d, m, q) = affine(values, 31.0);
        let (qs, qh) = pack(&q);
        Self { d, m, qh, qs }
    }
}

impl Block for BlockQ8_0 {
    const LEN: usize = 32;
    const FLAW: &'static str = SCALE_FLAW;

    #[inline]
    fn is_sound(&self) -> bool {
        self.d.is_finite()
    }

    #[inline]
    fn dequantise(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (out, &q) in out.iter_mut().zip(&self.qs) {
            *out = d * f32::from(q);
        }
    }

    fn quantise(values: &[f32]) -> Self {
        let d = Half::nearest_finite(extreme(values).abs() / 127.0);
        let inverse = inverse(d.to_f32());
        let qs = std::array::from_fn(|i| (values[i] * inverse).round().clamp(-127.0, 127.0) as i8);
        Self { d, qs }
    }
}
