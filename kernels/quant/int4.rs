//! Four-bit integers in groups of input features with a scale and a zero point, as GPTQ and AWQ
//! checkpoints have them.
//!
//! ```text
//! w = d · q − d · zero        q 0…15, zero 0…16
//! ```
//!
//! Both products and their difference are exact in f32, so this is `d · (q − zero)`.
//!
//! There are blocks of 32 and of 128 weights. Nearly all checkpoints have groups of 128, or one
//! group a row, which is the same scale in every block. Groups of 64 are taken as two blocks of
//! 32, at 4.75 bits a weight instead of 4.375.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{Block, Format, Half, SCALE_FLAW, bounds, inverse};
use crate::error::{Error, Result};

/// A block of 4-bit integers.
trait Int4Block: Block {
    /// The block of a scale, a zero point and the integers that `q` gives.
    fn new(d: Half, zero: u8, q: impl Fn(usize) -> u8) -> Self;
}

/// Defines a block of `$len` weights. Each 32 weights have their nibbles in 16 bytes: byte `i`
/// holds weight `i` (low) and weight `i + 16` (high).
macro_rules! int4_block {
    ($name:ident, $len:literal) => {
        #[doc = concat!($len, " weights under one scale and one zero point.")]
        #[derive(Clone, Copy, Debug, Pod, Zeroable)]
        #[repr(C)]
        pub struct $name {
            /// Scale.
            pub d: Half,
            /// Zero point.
            pub zero: u8,
            /// Nibbles, in runs of 16 bytes for 32 weights.
            pub qs: [[u8; 16]; $len / 32],
        }

        impl Block for $name {
            const LEN: usize = $len;
            const FLAW: &'static str = SCALE_FLAW;

            #[inline]
            fn is_sound(&self) -> bool {
                self.d.is_finite()
            }

            #[inline]
            fn dequantise(&self, out: &mut [f32]) {
                let d = self.d.to_f32();
                let min = d * f32::from(self.zero);
                for (run, out) in self.qs.iter().zip(out.chunks_exact_mut(32)) {
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = d * f32::from(run[i % 16] >> (4 * (i / 16)) & 15) - min;
                    }
                }
            }

            fn quantise(values: &[f32]) -> Self {
                let (min, max) = bounds(values);
                let d = Half::nearest_finite(max / 15.0 - min / 15.0);
                let inverse = inverse(d.to_f32());
                let zero = (-min * inverse).round().clamp(0.0, 16.0);
                Self::new(d, zero as u8, |i| {
                    (values[i] * inverse + zero).round().clamp(0.0, 15.0) as u8
                })
            }
        }

        impl Int4Block for $name {
            #[inline]
            fn new(d: Half, zero: u8, q: impl Fn(usize) -> u8) -> Self {
                let byte = |i: usize| q(i) | q(i + 16) << 4;
                let run = |run: usize| std::array::from_fn(|i| byte(32 * run + i));
                Self {
                    d,
                    zero,
                    qs: std::array::from_fn(run),
                }
            }
        }
    };
}

int4_block!(BlockInt4G32, 32);
int4_block!(BlockInt4G128, 128);

/// How a checkpoint packs eight 4-bit integers into a word (little-endian `i32`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// AutoGPTQ's first format: `qweight [cols / 8, rows]` with eight input features a word,
    /// `qzeros [n_groups, rows / 8]` with eight outputs a word, each zero point less one.
    Gptq,
    /// The same with zero points as they are (`checkpoint_format: gptq_v2`).
    GptqV2,
    /// AutoAWQ's GEMM format: `qweight [cols, rows / 8]` and `qzeros [n_groups, rows / 8]`,
    /// eight outputs a word in the order 0, 2, 4, 6, 1, 3, 5, 7.
    Awq,
}

/// The nibble of each of the eight outputs in a word of [`Packing::Awq`].
const AWQ_PLACES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The tensors of a 4-bit linear layer, as their file holds them.
#[derive(Clone, Copy, Debug)]
pub struct PackedInt4<'a> {
    /// The layer's name, for errors.
    pub name: &'a str,
    /// Who packed it.
    pub packing: Packing,
    /// Output features, a multiple of 8.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Input features that share a scale: 32, 64, or a multiple of 128 (`cols` for one group a
    /// row).
    pub group: usize,
    /// Integers; the shape is the packing's.
    pub qweight: &'a [u8],
    /// Zero points; the shape is the packing's.
    pub qzeros: &'a [u8],
    /// f16 `[n_groups, rows]`.
    pub scales: &'a [u8],
    /// i32 `[cols]`: the group of each input feature, where the checkpoint says.
    pub g_idx: Option<&'a [u8]>,
}

impl PackedInt4<'_> {
    /// The layer as `rows` rows of blocks, without loss.
    ///
    /// # Errors
    /// [`Error::Weight`] for a group size that is no whole number of blocks, tensors of another
    /// size than the shape asks for, or groups that are not runs of input features
    /// (`desc_act`): those would need the inputs in another order.
    pub fn repack(&self) -> Result<(Format, Vec<u8>)> {
        self.check()?;
        Ok(if self.group.is_multiple_of(128) {
            (Format::Int4G128, self.blocks::<BlockInt4G128>())
        } else {
            (Format::Int4G32, self.blocks::<BlockInt4G32>())
        })
    }

    fn check(&self) -> Result<()> {
        let Self {
            rows, cols, group, ..
        } = *self;
        let refuse = |detail: String| {
            Err(Error::Weight {
                tensor: self.name.into(),
                detail,
            })
        };
        if !matches!(group, 32 | 64) && (group == 0 || !group.is_multiple_of(128)) {
            return refuse(format!(
                "groups of {group} input features are neither 32 nor 64 nor multiples of 128"
            ));
        }
        if rows == 0 || !rows.is_multiple_of(8) || cols == 0 || !cols.is_multiple_of(group) {
            return refuse(format!(
                "[{rows}, {cols}] is not whole words of eight outputs and groups of {group} inputs"
            ));
        }
        let n_groups = cols / group;
        let sizes = [
            ("qweight", self.qweight.len(), (cols, rows / 2)),
            ("qzeros", self.qzeros.len(), (n_groups, rows / 2)),
            (
                "scales",
                self.scales.len(),
                (n_groups, rows.saturating_mul(2)),
            ),
        ];
        for (what, found, (outer, inner)) in sizes {
            if outer.checked_mul(inner) != Some(found) {
                return refuse(format!(
                    "{what} has {found} bytes, which is not [{rows}, {cols}] in groups of {group}"
                ));
            }
        }
        let Some(g_idx) = self.g_idx else {
            return Ok(());
        };
        let in_runs = g_idx.len() / 4 == cols
            && (g_idx.as_chunks::<4>().0.iter().enumerate())
                .all(|(i, g)| usize::try_from(i32::from_le_bytes(*g)) == Ok(i / group));
        if in_runs {
            Ok(())
        } else {
            refuse(
                "its groups are not runs of input features (desc_act), which is not supported"
                    .into(),
            )
        }
    }

    fn blocks<B: Int4Block + Send>(&self) -> Vec<u8> {
        let per_row = self.cols / B::LEN;
        let mut blocks = vec![B::zeroed(); self.rows * per_row];
        let rows = blocks.par_chunks_exact_mut(per_row).enumerate();
        rows.for_each(|(row, blocks)| {
            for (index, block) in blocks.iter_mut().enumerate() {
                let first = index * B::LEN;
                let group = first / self.group;
                let at = 2 * (group * self.rows + row);
                let d = Half([self.scales[at], self.scales[at + 1]]);
                let zero = self.zero(group, row);
                *block = B::new(d, zero, |i| self.integer(first + i, row));
            }
        });
        bytemuck::cast_slice(&blocks).to_vec()
    }

    /// The integer of input `col` and output `row`.
    fn integer(&self, col: usize, row: usize) -> u8 {
        match self.packing {
            Packing::Gptq | Packing::GptqV2 => {
                nibble(self.qweight, col / 8 * self.rows + row, col % 8)
            }
            Packing::Awq => self.of_eight_outputs(self.qweight, col, row),
        }
    }

    /// The zero point of a group and output `row`.
    fn zero(&self, group: usize, row: usize) -> u8 {
        let zero = self.of_eight_outputs(self.qzeros, group, row);
        match self.packing {
            Packing::Gptq => zero + 1,
            Packing::GptqV2 | Packing::Awq => zero,
        }
    }

    /// The nibble of output `row` in line `line` of words that hold eight outputs each.
    fn of_eight_outputs(&self, words: &[u8], line: usize, row: usize) -> u8 {
        let place = match self.packing {
            Packing::Gptq | Packing::GptqV2 => row % 8,
            Packing::Awq => AWQ_PLACES[row % 8],
        };
        nibble(words, line * (self.rows / 8) + row / 8, place)
    }
}

/// Nibble `place` of word `word`: little-endian, so two to a byte from the low end up.
fn nibble(words: &[u8], word: usize, place: usize) -> u8 {
    words[4 * word + place / 2] >> (4 * (place % 2)) & 15
}
