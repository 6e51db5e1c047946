//! Activations as the kernels read them: packed once an operation, shared by all parts and
//! threads.
//!
//! Tokens come in panels, as many as the kernels take in a call. Within a panel the columns are cut into units, and a
//! unit holds its columns for all tokens of the panel, so that a kernel for any few neighbouring
//! tokens finds them at fixed distances and walks through memory once, from front to back:
//!
//! ```text
//! Int8   unit of 32 columns: [token][32 × i8] then [token] Meta
//! F32    unit of 1 column:   [token] f32
//! Bf16   unit of 2 columns:  [token] (bf16, bf16)
//! ```
//!
//! Int8 is `x ≈ scale · q`, one scale for 32 columns of a token, `q` in ±127.

use bytemuck::{Pod, Zeroable};

use crate::cpu::memory::Bytes;
use crate::cpu::tiles::GROUP;
use crate::error::Result;

/// Columns under one scale.
pub(super) const BLOCK: usize = 32;
/// Below this a block of 32 counts as zero: `127 / amax` would not be finite.
const SMALLEST: f32 = 1e-36;

/// What a kernel needs to know of 32 quantised activations of a token besides the integers.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Meta {
    /// What the integers are multiplied by.
    pub(super) scale: f32,
    /// `−Σ q`, negated because it makes up for the weights' offset.
    pub(super) minus_sum: i32,
    /// The same of each 16.
    pub(super) minus_half_sums: [i32; 2],
    /// `scale · Σ q`: what minima are multiplied by.
    pub(super) scaled_sum: f32,
}

impl Meta {
    /// Of a scale and the sums of the integers of each 16 columns.
    #[inline(always)]
    pub(super) fn new(scale: f32, half_sums: [i32; 2]) -> Meta {
        let sum = half_sums[0] + half_sums[1];
        Meta {
            scale,
            minus_sum: -sum,
            minus_half_sums: [-half_sums[0], -half_sums[1]],
            scaled_sum: scale * sum as f32,
        }
    }
}

/// How activations are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Int8,
    F32,
    Bf16,
}

impl Encoding {
    /// Columns of a unit.
    pub(super) fn unit_cols(self) -> usize {
        match self {
            Encoding::Int8 => BLOCK,
            Encoding::F32 => 1,
            Encoding::Bf16 => 2,
        }
    }

    /// Every encoding.
    pub(super) const ALL: [Encoding; 3] = [Encoding::Int8, Encoding::F32, Encoding::Bf16];

    /// Bytes of a token's values in a unit.
    pub(super) fn value_bytes(self) -> usize {
        match self {
            Encoding::Int8 => BLOCK,
            Encoding::F32 | Encoding::Bf16 => 4,
        }
    }

    /// Bytes of a unit for each token.
    fn unit_bytes(self) -> usize {
        match self {
            Encoding::Int8 => BLOCK + size_of::<Meta>(),
            Encoding::F32 | Encoding::Bf16 => 4,
        }
    }

    /// Units of `cols` columns, padded with zeros to the widest step that may be cut short.
    fn n_units(self, cols: usize) -> usize {
        match self {
            // A step of MXFP4 is two groups, of which the second may be beyond the columns.
            Encoding::Int8 => cols.div_ceil(2 * GROUP) * (2 * GROUP / BLOCK),
            // An FP8 step is four columns of one unit each.
            Encoding::F32 => cols.next_multiple_of(4),
            Encoding::Bf16 => cols.div_ceil(2),
        }
    }
}

/// The rows of `x` to pack: all of the first `n`, or chosen ones (as a device lists them: in
/// 32 bits).
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    First(usize),
    Chosen(&'a [usize]),
    Listed(&'a [u32]),
}

impl Rows<'_> {
    pub(crate) fn len(self) -> usize {
        match self {
            Rows::First(n) => n,
            Rows::Chosen(rows) => rows.len(),
            Rows::Listed(rows) => rows.len(),
        }
    }

    fn get(self, index: usize) -> usize {
        match self {
            Rows::First(_) => index,
            Rows::Chosen(rows) => rows[index],
            Rows::Listed(rows) => rows[index] as usize,
        }
    }
}

/// The shape of packed activations.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) encoding: Encoding,
    /// Tokens of a full panel.
    panel: usize,
    n_tokens: usize,
    cols: usize,
}

impl Layout {
    pub(super) fn new(encoding: Encoding, panel: usize, n_tokens: usize, cols: usize) -> Layout {
        Layout {
            encoding,
            panel,
            n_tokens,
            cols,
        }
    }

    /// The first token of a panel.
    pub(super) fn first_token(self, panel: usize) -> usize {
        panel * self.panel
    }

    pub(super) fn n_panels(self) -> usize {
        self.n_tokens.div_ceil(self.panel)
    }

    /// Tokens of a panel.
    pub(super) fn width(self, panel: usize) -> usize {
        (self.n_tokens - self.first_token(panel)).min(self.panel)
    }

    /// Where a panel begins.
    pub(super) fn offset(self, panel: usize) -> usize {
        self.first_token(panel) * self.token_bytes()
    }

    /// Bytes from one unit of a panel to the next.
    pub(super) fn unit_stride(self, panel: usize) -> usize {
        self.width(panel) * self.encoding.unit_bytes()
    }

    /// Bytes of all panels.
    pub(super) fn bytes(self) -> usize {
        self.n_tokens * self.token_bytes()
    }

    fn token_bytes(self) -> usize {
        self.encoding.n_units(self.cols) * self.encoding.unit_bytes()
    }
}

/// Memory for one encoding, kept from one operation to the next.
#[derive(Default)]
pub(super) struct Scratch(Option<Bytes>);

impl Scratch {
    /// At least `len` bytes, holding anything.
    pub(super) fn reserve(&mut self, len: usize) -> Result<&mut [u8]> {
        let bytes = match self.0.take() {
            Some(bytes) if bytes.len() >= len => bytes,
            _ => Bytes::zeroed(len.next_power_of_two(), "packed activations")?,
        };
        Ok(&mut self.0.insert(bytes)[..len])
    }
}

/// Quantises a block into the first 32 bytes of what it is given.
pub(super) trait Quantise: Fn(&[f32; BLOCK], &mut [u8]) -> Meta {}

impl<F: Fn(&[f32; BLOCK], &mut [u8]) -> Meta> Quantise for F {}

/// Packs one panel of the rows of `x`, each `cols` long, into `out`.
#[inline(always)]
pub(super) fn pack_panel(
    layout: Layout,
    x: &[f32],
    rows: Rows<'_>,
    panel: usize,
    quantise: impl Quantise,
    out: &mut [u8],
) {
    let width = layout.width(panel);
    for token in 0..width {
        let start = rows.get(layout.first_token(panel) + token) * layout.cols;
        let x = &x[start..start + layout.cols];
        match layout.encoding {
            Encoding::Int8 => pack_int8(x, token, width, &quantise, out),
            Encoding::F32 => pack_f32(x, token, width, out),
            Encoding::Bf16 => pack_bf16(x, token, width, out),
        }
    }
}

// Plain loops over fixed-size arrays from here on, no iterator adaptors: those are not always
// inlined into code for other instructions, and a loop around a call is not made vector code.

#[inline(always)]
fn pack_int8(x: &[f32], token: usize, width: usize, quantise: &impl Quantise, out: &mut [u8]) {
    const META: usize = size_of::<Meta>();
    let stride = width * (BLOCK + META);
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let mut padded = [0.0; BLOCK];
    padded[..rest.len()].copy_from_slice(rest);
    for index in 0..out.len() / stride {
        let unit = &mut out[index * stride..(index + 1) * stride];
        let meta = if index < blocks.len() {
            quantise(&blocks[index], &mut unit[token * BLOCK..])
        } else {
            // The last columns, then none.
            let meta = quantise(&padded, &mut unit[token * BLOCK..]);
            padded = [0.0; BLOCK];
            meta
        };
        let start = width * BLOCK + token * META;
        unit[start..start + META].copy_from_slice(bytemuck::bytes_of(&meta));
    }
}

/// Quantises to the nearest multiple of `amax / 127`, ties to even, into the first 32 bytes of
/// `out`. A block with NaN or infinity gets a NaN scale: it must not vanish in an integer.
#[inline(always)]
pub(super) fn quantise(x: &[f32; BLOCK], out: &mut [u8]) -> Meta {
    // Bits of absolute values order as the values do, with NaN above infinity.
    let mut amax = 0u32;
    for x in x {
        amax = amax.max(x.to_bits() & 0x7fff_ffff);
    }
    let amax = f32::from_bits(amax);
    let (scale, inverse) = scale(amax);
    // Adding 1.5 · 2^23 rounds to an integer, which then is the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let mut q = [0i32; BLOCK];
    for i in 0..BLOCK {
        q[i] = (x[i] * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
    }
    if !amax.is_finite() {
        q = [0; BLOCK];
    }
    let mut halves = [0i32; 2];
    for q in &q[..BLOCK / 2] {
        halves[0] += q;
    }
    for q in &q[BLOCK / 2..] {
        halves[1] += q;
    }
    let mut bytes = [0u8; BLOCK];
    for i in 0..BLOCK {
        bytes[i] = q[i] as u8;
    }
    out[..BLOCK].copy_from_slice(&bytes);
    Meta::new(scale, halves)
}

/// Scale of a block and what its values are multiplied by to become integers.
#[inline(always)]
pub(super) fn scale(amax: f32) -> (f32, f32) {
    if amax < SMALLEST {
        (0.0, 0.0)
    } else if amax.is_finite() {
        (amax / 127.0, 127.0 / amax)
    } else {
        (f32::NAN, 0.0)
    }
}

#[inline(always)]
fn pack_f32(x: &[f32], token: usize, width: usize, out: &mut [u8]) {
    let values: &mut [f32] = bytemuck::cast_slice_mut(out);
    for col in 0..values.len() / width {
        values[col * width + token] = if col < x.len() { x[col] } else { 0.0 };
    }
}

#[inline(always)]
fn pack_bf16(x: &[f32], token: usize, width: usize, out: &mut [u8]) {
    let pairs: &mut [u32] = bytemuck::cast_slice_mut(out);
    for index in 0..pairs.len() / width {
        let first = bf16_bits(x[2 * index]);
        let second = if 2 * index + 1 < x.len() {
            bf16_bits(x[2 * index + 1])
        } else {
            0
        };
        pairs[index * width + token] = first | second << 16;
    }
}

/// The nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() {
        bits >> 16 | 0x40
    } else {
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_quantise_to_the_nearest_step_and_know_their_sums() {
        let x: [f32; BLOCK] = std::array::from_fn(|i| (i as f32 * 1.3).sin() * 3.0 - 1.0);
        let mut q = [0; BLOCK];
        let meta = quantise(&x, &mut q);
        let q = q.map(|q| q as i8);
        let amax = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        assert_eq!(meta.scale, amax / 127.0);
        for (x, q) in x.iter().zip(q) {
            assert!((x - meta.scale * f32::from(q)).abs() <= meta.scale * 0.501);
        }
        let sum = |q: &[i8]| q.iter().map(|&q| i32::from(q)).sum::<i32>();
        assert_eq!(meta.minus_sum, -sum(&q));
        assert_eq!(meta.minus_half_sums, [-sum(&q[..16]), -sum(&q[16..])]);
        assert_eq!(meta.scaled_sum, meta.scale * sum(&q) as f32);
    }

    #[test]
    fn hostile_blocks_neither_vanish_nor_overflow() {
        for (value, zero) in [(f32::NAN, false), (f32::INFINITY, false), (1e-40, true)] {
            let mut x = [0.0; BLOCK];
            x[7] = value;
            let mut q = [1; BLOCK];
            let meta = quantise(&x, &mut q);
            assert_eq!((q, meta.minus_sum), ([0; BLOCK], 0));
            assert_eq!((meta.scale == 0.0, meta.scale.is_nan()), (zero, !zero));
        }
        let mut q = [0; BLOCK];
        quantise(&[f32::MAX; BLOCK], &mut q);
        assert_eq!(q, [127; BLOCK]);
    }
}
