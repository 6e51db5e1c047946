//! The formats of weights: how a row is cut into blocks and what a block's bytes mean.
//!
//! Each layout is defined once, as a [`Block`] whose fields lie as they do in a file
//! ([`floats`], [`legacy`], [`k_quants`], [`mx`], [`int4`]); everything that reads or re-tiles
//! weights goes by these structs. All multi-byte numbers are little-endian. The source of the
//! layouts is the GGUF format as ggml defines it, for FP8 the OCP's; 4-bit integers of GPTQ and
//! AWQ checkpoints have a layout of our own. The values are checked against Python tables.

pub mod floats;
pub mod int4;
pub mod k_quants;
pub mod legacy;
pub mod mx;

use std::fmt;

use bytemuck::Pod;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// How a row of weights is encoded (GGUF and safetensors names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the formats' own")]
pub enum Format {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    F8E4M3,
    Mxfp4,
    Int4G32,
    Int4G128,
}

/// The smallest run of weights that can be decoded by itself, laid out as in a file.
///
/// Alignment is 1, so a block can be read at any byte of a mapped file.
pub trait Block: Pod {
    /// Weights in a block.
    const LEN: usize;

    /// What makes a block hold no weights, in the words of an error. None for floats that every
    /// device carries on as they are: infinities and NaN of theirs show in the logits.
    const FLAW: &'static str = "";

    /// Whether the block is free of its format's [`FLAW`](Self::FLAW).
    #[inline]
    fn is_sound(&self) -> bool {
        true
    }

    /// Writes the block's [`LEN`](Self::LEN) weights to `out`, which is as long.
    fn dequantise(&self, out: &mut [f32]);

    /// Encodes the [`LEN`](Self::LEN) weights of `values` by rounding to nearest. A value too
    /// large for the format becomes the nearest one that it has; NaN is as good as zero to a
    /// format without one.
    fn quantise(values: &[f32]) -> Self;
}

/// The exponent of halves that are no finite numbers.
const INFINITE_HALF: u16 = 0x7c00;

/// [`Block::FLAW`] of blocks with halves for scales.
const SCALE_FLAW: &str = "a scale that is infinite or NaN";

/// A 16-bit float of a file, unaligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Half(pub [u8; 2]);

impl Half {
    /// The value, exactly.
    #[inline]
    pub fn to_f32(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }

    /// Whether it is neither infinite nor NaN.
    #[inline]
    fn is_finite(self) -> bool {
        u16::from_le_bytes(self.0) & INFINITE_HALF != INFINITE_HALF
    }

    /// The nearest finite half: a block whose scale is infinite would hold no weights.
    pub fn nearest_finite(value: f32) -> Self {
        let max = f16::MAX.to_f32();
        Self(f16::from_f32(value.clamp(-max, max)).to_le_bytes())
    }
}

/// What there is to know about a format: one row of the table in [`Format::layout`].
struct Layout {
    name: &'static str,
    ggml_type: Option<u32>,
    block_len: usize,
    block_bytes: usize,
    flaw: &'static str,
    are_sound: fn(&[u8]) -> bool,
    dequantise: fn(&[u8], &mut [f32]),
    quantise: fn(&[f32], &mut [u8]),
}

impl Layout {
    const fn of<B: Block>(name: &'static str, ggml_type: Option<u32>) -> Self {
        Self {
            name,
            ggml_type,
            block_len: B::LEN,
            block_bytes: size_of::<B>(),
            flaw: B::FLAW,
            are_sound: blocks_are_sound::<B>,
            dequantise: dequantise_blocks::<B>,
            quantise: quantise_blocks::<B>,
        }
    }
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::F8E4M3,
        Self::Mxfp4,
        Self::Int4G32,
        Self::Int4G128,
    ];

    const fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout::of::<floats::BlockF32>("F32", Some(0)),
            Self::F16 => Layout::of::<floats::BlockF16>("F16", Some(1)),
            Self::Bf16 => Layout::of::<floats::BlockBf16>("BF16", Some(30)),
            Self::Q4_0 => Layout::of::<legacy::BlockQ4_0>("Q4_0", Some(2)),
            Self::Q4_1 => Layout::of::<legacy::BlockQ4_1>("Q4_1", Some(3)),
            Self::Q5_0 => Layout::of::<legacy::BlockQ5_0>("Q5_0", Some(6)),
            Self::Q5_1 => Layout::of::<legacy::BlockQ5_1>("Q5_1", Some(7)),
            Self::Q8_0 => Layout::of::<legacy::BlockQ8_0>("Q8_0", Some(8)),
            Self::Q4K => Layout::of::<k_quants::BlockQ4K>("Q4_K", Some(12)),
            Self::Q5K => Layout::of::<k_quants::BlockQ5K>("Q5_K", Some(13)),
            Self::Q6K => Layout::of::<k_quants::BlockQ6K>("Q6_K", Some(14)),
            Self::F8E4M3 => Layout::of::<floats::BlockF8E4M3>("F8_E4M3", None),
            Self::Mxfp4 => Layout::of::<mx::BlockMxfp4>("MXFP4", Some(39)),
            Self::Int4G32 => Layout::of::<int4::BlockInt4G32>("INT4_G32", None),
            Self::Int4G128 => Layout::of::<int4::BlockInt4G128>("INT4_G128", None),
        }
    }

    /// The name that people know it by: `Q4_K`, `BF16`.
    pub const fn name(self) -> &'static str {
        self.layout().name
    }

    /// The number that stands for it in a GGUF file, if it can be in one.
    pub const fn ggml_type(self) -> Option<u32> {
        self.layout().ggml_type
    }

    /// The format that `ggml_type` stands for, if it is one of these.
    pub fn from_ggml_type(ggml_type: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|format| format.ggml_type() == Some(ggml_type))
    }

    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        self.layout().block_len
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        self.layout().block_bytes
    }

    /// Bytes of a row of `cols` weights; `None` where that is not a whole number of blocks or
    /// not a number of bytes that fits in memory.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether weights are small numbers under a scale, not floats.
    pub const fn is_quantised(self) -> bool {
        self.block_len() > 1
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Decodes `bytes`, a whole number of blocks of `format`, into `out`, one value a weight.
///
/// Every product and sum is rounded to f32 on its own, in the order of the format's definition.
///
/// # Errors
/// [`Error::Shape`] where `bytes` are not exactly the blocks of `out.len()` weights.
pub fn dequantise(format: Format, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    if format.row_bytes(out.len()) != Some(bytes.len()) {
        return Err(Error::Shape {
            op: "dequantise",
            detail: format!(
                "{} bytes of {format} do not hold {} weights",
                bytes.len(),
                out.len()
            ),
        });
    }
    (format.layout().dequantise)(bytes, out);
    Ok(())
}

/// Encodes `values`, a whole number of blocks, by rounding to nearest with each block's scale
/// taken from its extremes. No search for better scales: this makes test weights, not models.
///
/// # Errors
/// [`Error::Shape`] where `values` are not a whole number of blocks.
pub fn quantise(format: Format, values: &[f32]) -> Result<Vec<u8>> {
    let n_bytes = format.row_bytes(values.len()).ok_or_else(|| Error::Shape {
        op: "quantise",
        detail: format!(
            "{} values are not a whole number of {format} blocks of {}",
            values.len(),
            format.block_len()
        ),
    })?;
    let mut bytes = vec![0; n_bytes];
    (format.layout().quantise)(values, &mut bytes);
    Ok(bytes)
}

/// What makes `bytes`, whole blocks of `format`, no weights: a scale that is infinite or NaN, or
/// NaN in FP8. `None` where there is nothing of the kind, and for F32, F16 and BF16.
///
/// One pass over the bytes, on all threads: what a file holds is checked as it is read. Kernels
/// work on exponents and integers as they are, so NaN would be a number to them.
pub(crate) fn flaw(format: Format, bytes: &[u8]) -> Option<&'static str> {
    let layout = format.layout();
    let piece = SOUND_BYTES / layout.block_bytes * layout.block_bytes;
    let is_sound = layout.flaw.is_empty() || bytes.par_chunks(piece).all(layout.are_sound);
    (!is_sound).then_some(layout.flaw)
}

/// Bytes that a thread checks at a time.
const SOUND_BYTES: usize = 1 << 16;

fn blocks_are_sound<B: Block>(bytes: &[u8]) -> bool {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    // All of them, whatever is found: so it becomes vector code.
    (blocks.iter()).fold(true, |sound, block| sound & block.is_sound())
}

fn dequantise_blocks<B: Block>(bytes: &[u8], out: &mut [f32]) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    for (block, out) in blocks.iter().zip(out.chunks_exact_mut(B::LEN)) {
        block.dequantise(out);
    }
}

fn quantise_blocks<B: Block>(values: &[f32], bytes: &mut [u8]) {
    let blocks: &mut [B] = bytemuck::cast_slice_mut(bytes);
    for (block, values) in blocks.iter_mut().zip(values.chunks_exact(B::LEN)) {
        *block = B::quantise(values);
    }
}

/// The value of `x` furthest from zero, with its sign.
fn extreme(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |a: f32, &x| if x.abs() > a.abs() { x } else { a })
}

/// Least and greatest of `values` and zero.
fn bounds(values: &[f32]) -> (f32, f32) {
    values
        .iter()
        .fold((0.0, 0.0), |(min, max): (f32, f32), &x| {
            (min.min(x), max.max(x))
        })
}

/// `1 / x`, or 0 where the block's scale is zero and all its integers are too.
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { x.recip() }
}

/// `bf16` bits of a file, unaligned.
#[inline]
fn bf16_to_f32(bytes: [u8; 2]) -> f32 {
    bf16::from_le_bytes(bytes).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave with a different amplitude every 32 values.
    fn wave(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| (i as f32 * 0.7).sin() * (1.0 + (i / 32) as f32))
            .collect()
    }

    #[test]
    fn quantised_values_come_back_within_half_a_step() {
        // Steps of the widest 32 values: range over the number of levels, and for K-quants the
        // 6-bit rounding of scale and minimum on top.
        for (format, tolerance) in [
            (Format::F32, 0.0),
            (Format::F16, 1e-3),
            (Format::Bf16, 8e-3),
            (Format::Q4_0, 0.13),
            (Format::Q4_1, 0.07),
            (Format::Q5_0, 0.065),
            (Format::Q5_1, 0.034),
            (Format::Q8_0, 0.005),
            (Format::Q4K, 0.09),
            (Format::Q5K, 0.06),
            (Format::Q6K, 0.04),
            // Half of the least significant of four bits.
            (Format::F8E4M3, 0.0625),
            // What lies between 6 and 8 times the scale becomes 6.
            (Format::Mxfp4, 0.25),
            (Format::Int4G32, 0.07),
            // Four amplitudes under one scale, the widest four times the narrowest.
            (Format::Int4G128, 0.27),
        ] {
            let values = wave(512);
            let bytes = quantise(format, &values).unwrap();
            assert_eq!(bytes.len(), format.row_bytes(512).unwrap(), "{format}");
            let mut back = vec![0.0; 512];
            dequantise(format, &bytes, &mut back).unwrap();
            for (i, (x, y)) in values.iter().zip(&back).enumerate() {
                let amplitude = 1.0 + (i / 32) as f32;
                assert!(
                    (x - y).abs() <= tolerance * amplitude,
                    "{format} {i}: {x} {y}"
                );
            }
        }
    }

    #[test]
    fn zeros_and_hostile_values_make_finite_blocks() {
        for format in Format::ALL.into_iter().filter(|f| f.is_quantised()) {
            for value in [
                0.0,
                f32::MAX,
                f32::MIN_POSITIVE,
                f32::NAN,
                f32::NEG_INFINITY,
            ] {
                let bytes = quantise(format, &[value; 256]).unwrap();
                let mut back = vec![f32::NAN; 256];
                dequantise(format, &bytes, &mut back).unwrap();
                assert!(back.iter().all(|x| x.is_finite()), "{format} of {value}");
                assert!(value != 0.0 || back.iter().all(|&x| x == 0.0), "{format}");
            }
        }
    }

    /// The first byte of a block from which `bytes` make the format's flaw.
    fn flaws() -> Vec<(Format, usize, &'static [u8])> {
        const NAN: &[u8] = &[0x01, 0xfc];
        const INFINITY: &[u8] = &[0x00, 0x7c];
        let mut flaws = vec![
            (Format::F8E4M3, 0, &[0x7f][..]),
            (Format::F8E4M3, 0, &[0xff]),
            (Format::Mxfp4, 0, &[255]),
            // A scale and the minimum beside it, or the scale of the minima.
            (Format::Q4_1, 2, NAN),
            (Format::Q5_1, 2, NAN),
            (Format::Q4K, 2, NAN),
            (Format::Q5K, 2, NAN),
        ];
        for format in Format::ALL.into_iter().filter(|f| f.is_quantised()) {
            let at = if format == Format::Q6K { 208 } else { 0 };
            if format != Format::Mxfp4 {
                flaws.extend([(format, at, NAN), (format, at, INFINITY)]);
            }
        }
        flaws
    }

    #[test]
    fn scales_that_are_no_numbers_are_found_wherever_they_are() {
        for (format, at, bytes) in flaws() {
            // Longer than a piece, and no whole number of them.
            let n_blocks = SOUND_BYTES / format.block_bytes() + 5;
            let values = vec![0.75; n_blocks * format.block_len()];
            let sound = quantise(format, &values).unwrap();
            assert_eq!(flaw(format, &sound), None, "{format}");
            for block in [0, n_blocks - 1] {
                let mut data = sound.clone();
                data[block * format.block_bytes() + at..][..bytes.len()].copy_from_slice(bytes);
                assert!(flaw(format, &data).is_some(), "{format} {block} {bytes:x?}");
            }
        }
    }

    #[test]
    fn the_greatest_and_the_least_scales_are_numbers() {
        for (format, byte) in [
            (Format::F8E4M3, 0x7e),
            (Format::F8E4M3, 0x80),
            (Format::Mxfp4, 254),
            (Format::Mxfp4, 0),
            (Format::Q8_0, 0x7b),
            (Format::Q8_0, 0),
        ] {
            let data = vec![byte; format.block_bytes()];
            assert_eq!(flaw(format, &data), None, "{format} {byte:x}");
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert_eq!(Format::Q4K.row_bytes(128), None);
        assert_eq!(Format::F32.row_bytes(usize::MAX), None);
        assert!(dequantise(Format::Q8_0, &[0; 33], &mut [0.0; 32]).is_err());
        assert!(dequantise(Format::Q8_0, &[0; 34], &mut [0.0; 31]).is_err());
        assert!(quantise(Format::Q4_0, &[0.0; 16]).is_err());
    }

    #[test]
    fn ggml_types_name_each_format_once() {
        for format in Format::ALL {
            if let Some(ggml_type) = format.ggml_type() {
                assert_eq!(Format::from_ggml_type(ggml_type), Some(format));
            }
        }
        assert_eq!(Format::from_ggml_type(4), None);
    }
}
