//! Weights of each format as AVX-512 kernels read them, straight from tiles.
//!
//! No closures and no `map` over vectors: what is not `#[inline(always)]` may become a function
//! of its own, which has no AVX-512 and so calls a function for each instruction.

use std::arch::x86_64::*;

use crate::cpu::tiles::*;

/// Reads a step. All functions need AVX-512 F, BW, VL and DQ and inline into kernels that have
/// them.
pub(super) trait Unpack: Copy {
    /// The format of the tile, for its constants.
    type Source: QuantStep;
    /// Columns of a step.
    const COLS: usize;
    /// What is unpacked once a step.
    type Header;

    /// # Safety
    /// The machine has the instructions; as for all functions here.
    unsafe fn header(&self) -> Self::Header;

    /// The scales of a group: two or four, by `SCALE_COLS`.
    ///
    /// # Safety
    /// As for [`header`](Self::header).
    unsafe fn scales(&self, header: &Self::Header, group: usize) -> [__m512; 4];

    /// What is subtracted for each half of a group.
    ///
    /// # Safety
    /// As for [`header`](Self::header).
    #[inline(always)]
    unsafe fn mins(&self, _header: &Self::Header, _group: usize) -> [__m512; 2] {
        // SAFETY: the caller vouches for the instructions.
        unsafe { [_mm512_setzero_ps(); 2] }
    }

    /// Vector `c` of 16 of a group: unsigned integers of 16 rows × 4 columns.
    ///
    /// # Safety
    /// As for [`header`](Self::header).
    unsafe fn vector(&self, group: usize, c: usize) -> __m512i;
}

#[inline(always)]
pub(super) unsafe fn load<T>(vector: &T) -> __m512i {
    const { assert!(size_of::<T>() == 64) }
    // SAFETY: 64 bytes are read; every vector of a step is aligned to 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(vector).cast()) }
}

#[inline(always)]
pub(super) unsafe fn halves(halves: &HalfLanes) -> __m512 {
    // SAFETY: 32 bytes are read.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(std::ptr::from_ref(halves).cast())) }
}

#[inline(always)]
unsafe fn minus_halves(lanes: &HalfLanes) -> __m512 {
    // SAFETY: the caller vouches for the instructions.
    unsafe { _mm512_xor_ps(halves(lanes), _mm512_set1_ps(-0.0)) }
}

#[inline(always)]
pub(super) unsafe fn sixteen_bytes(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Shifts 16-bit lanes left, or right where `by` is negative. `by` is a constant once inlined.
#[inline(always)]
unsafe fn shift_left(x: __m512i, by: i32) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        match by {
            0.. => _mm512_sll_epi16(x, _mm_cvtsi32_si128(by)),
            _ => _mm512_srl_epi16(x, _mm_cvtsi32_si128(-by)),
        }
    }
}

/// The low four bits of vector `c` of a group.
#[inline(always)]
pub(super) unsafe fn nibble(nibbles: &[Lanes; 8], c: usize) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        low_nibbles(shift_left(
            load(&nibbles[c % 8]),
            if c < 8 { 0 } else { -4 },
        ))
    }
}

/// The low four bits of each byte.
#[inline(always)]
unsafe fn low_nibbles(x: __m512i) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe { _mm512_and_si512(x, _mm512_set1_epi8(15)) }
}

/// `low | (high & mask)`.
#[inline(always)]
unsafe fn or_masked(low: __m512i, high: __m512i, mask: i8) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe { _mm512_ternarylogic_epi32::<0xf8>(low, high, _mm512_set1_epi8(mask)) }
}

/// The five bits of vector `c` of a group.
#[inline(always)]
unsafe fn five_bits(nibbles: &[Lanes; 8], high: &[Lanes; 2], c: usize) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let high = shift_left(load(&high[c % 2]), 4 - (c / 2) as i32);
        or_masked(nibble(nibbles, c), high, 16)
    }
}

/// The six bits of vector `c` of a group.
#[inline(always)]
unsafe fn six_bits(nibbles: &[Lanes; 8], high: &[Lanes; 4], c: usize) -> __m512i {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let high = shift_left(load(&high[c % 4]), 4 - 2 * (c / 4) as i32);
        or_masked(nibble(nibbles, c), high, 0x30)
    }
}

/// A step that is read without a header: its scales and, where it has some, minima of a group, and
/// vector `c` of it, each an expression over the names given.
macro_rules! unpack {
    ($step:ty, |$this:ident, $group:ident, $c:ident| {
        scales: $scales:expr,
        $(mins: $mins:expr,)?
        vector: $vector:expr,
    }) => {
        #[allow(unused_variables)]
        impl Unpack for $step {
            type Source = $step;
            const COLS: usize = <$step as Step>::COLS;
            type Header = ();

            #[inline(always)]
            unsafe fn header(&self) {}

            #[inline(always)]
            unsafe fn scales(&self, _header: &(), $group: usize) -> [__m512; 4] {
                let $this = self;
                // SAFETY: the caller vouches for the instructions.
                unsafe { $scales }
            }

            $(
                #[inline(always)]
                unsafe fn mins(&self, _header: &(), $group: usize) -> [__m512; 2] {
                    let $this = self;
                    // SAFETY: the caller vouches for the instructions.
                    unsafe { $mins }
                }
            )?

            #[inline(always)]
            unsafe fn vector(&self, $group: usize, $c: usize) -> __m512i {
                let $this = self;
                // SAFETY: the caller vouches for the instructions.
                unsafe { $vector }
            }
        }
    };
}
pub(super) use unpack;

/// Two scales of a group, and nothing behind them.
#[inline(always)]
pub(super) unsafe fn pair(first: __m512, second: __m512) -> [__m512; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe { [first, second, _mm512_setzero_ps(), _mm512_setzero_ps()] }
}

/// Steps of two 32-blocks. A file's minimum is added.
macro_rules! unpack_blocks32 {
    ($step:ty, |$this:ident, $c:ident| $vector:expr $(, mins: $mins:ident)?) => {
        unpack!($step, |$this, group, $c| {
            scales: pair(halves(&$this.d[0]), halves(&$this.d[1])),
            $(mins: [minus_halves(&$this.$mins[0]), minus_halves(&$this.$mins[1])],)?
            vector: $vector,
        });
    };
}

unpack_blocks32!(StepQ4_0, |this, c| nibble(&this.nibbles, c));
unpack_blocks32!(StepQ4_1, |this, c| nibble(&this.nibbles, c), mins: m);
unpack_blocks32!(StepQ5_0, |this, c| five_bits(&this.nibbles, &this.high, c));
unpack_blocks32!(StepQ5_1, |this, c| five_bits(&this.nibbles, &this.high, c), mins: m);
unpack_blocks32!(StepQ8_0, |this, c| load(&this.q[c]));

/// The scales and minima of a K-quant step, a byte each: indexed by 32-block.
#[repr(C, align(64))]
pub(super) struct AffineBytes {
    scales: [[u8; TILE_ROWS]; 8],
    mins: [[u8; TILE_ROWS]; 8],
}

#[inline(always)]
unsafe fn affine_bytes(affine: &Affine) -> AffineBytes {
    // SAFETY: the caller vouches for the instructions; `__m512i` has the layout of 64 bytes.
    unsafe {
        let (scale, min) = (load(&affine.scale_low), load(&affine.min_low));
        let upper = load(&affine.upper);
        std::mem::transmute::<[__m512i; 4], AffineBytes>([
            or_masked(low_nibbles(scale), shift_left(upper, 4), 0x30),
            or_masked(
                low_nibbles(shift_left(scale, -4)),
                shift_left(upper, 2),
                0x30,
            ),
            or_masked(low_nibbles(min), upper, 0x30),
            or_masked(
                low_nibbles(shift_left(min, -4)),
                shift_left(upper, -2),
                0x30,
            ),
        ])
    }
}

/// `d · bytes` for the two 32-blocks of a group.
#[inline(always)]
unsafe fn affine_scales(d: &HalfLanes, bytes: &[[u8; TILE_ROWS]; 8], group: usize) -> [__m512; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let d = halves(d);
        let first = _mm512_cvtepu8_epi32(sixteen_bytes(&bytes[2 * group]));
        let second = _mm512_cvtepu8_epi32(sixteen_bytes(&bytes[2 * group + 1]));
        [
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(first)),
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(second)),
        ]
    }
}

macro_rules! unpack_affine {
    ($step:ty, |$this:ident, $group:ident, $c:ident| $vector:expr) => {
        impl Unpack for $step {
            type Source = $step;
            const COLS: usize = <$step as Step>::COLS;
            type Header = AffineBytes;

            #[inline(always)]
            unsafe fn header(&self) -> AffineBytes {
                // SAFETY: the caller vouches for the instructions.
                unsafe { affine_bytes(&self.affine) }
            }

            #[inline(always)]
            unsafe fn scales(&self, header: &AffineBytes, group: usize) -> [__m512; 4] {
                // SAFETY: the caller vouches for the instructions.
                unsafe {
                    let [first, second] = affine_scales(&self.affine.d, &header.scales, group);
                    pair(first, second)
                }
            }

            #[inline(always)]
            unsafe fn mins(&self, header: &AffineBytes, group: usize) -> [__m512; 2] {
                // SAFETY: the caller vouches for the instructions.
                unsafe { affine_scales(&self.affine.dmin, &header.mins, group) }
            }

            #[inline(always)]
            unsafe fn vector(&self, $group: usize, $c: usize) -> __m512i {
                let $this = self;
                // SAFETY: the caller vouches for the instructions.
                unsafe { $vector }
            }
        }
    };
}

unpack_affine!(StepQ4K, |this, group, c| nibble(&this.nibbles[group], c));
unpack_affine!(StepQ5K, |this, group, c| {
    let bits = &this.groups[group];
    five_bits(&bits.nibbles, &bits.high, c)
});

/// `d · bytes`, signed.
#[inline(always)]
unsafe fn signed_scale(d: __m512, bytes: &[u8; TILE_ROWS]) -> __m512 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let scale = _mm512_cvtepi8_epi32(sixteen_bytes(bytes));
        _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale))
    }
}

/// The four scales of a group of Q6_K, 16 columns each.
#[inline(always)]
unsafe fn signed_scales(d: &HalfLanes, bytes: &[[u8; TILE_ROWS]; 4]) -> [__m512; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let d = halves(d);
        [
            signed_scale(d, &bytes[0]),
            signed_scale(d, &bytes[1]),
            signed_scale(d, &bytes[2]),
            signed_scale(d, &bytes[3]),
        ]
    }
}

unpack!(StepQ6K, |this, group, c| {
    scales: signed_scales(&this.d, bytemuck::cast_ref(&this.groups[group].scales)),
    vector: six_bits(&this.groups[group].nibbles, &this.groups[group].high, c),
});

/// A group of Q6_K that was expanded beforehand.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct ExpandedQ6K(Expanded);

impl Unpack for ExpandedQ6K {
    type Source = StepQ6K;
    const COLS: usize = GROUP;
    type Header = ();

    #[inline(always)]
    unsafe fn header(&self) {}

    #[inline(always)]
    unsafe fn scales(&self, _header: &(), _group: usize) -> [__m512; 4] {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let scales = &self.0.scales;
            [
                _mm512_load_ps(scales[0].as_ptr()),
                _mm512_load_ps(scales[1].as_ptr()),
                _mm512_load_ps(scales[2].as_ptr()),
                _mm512_load_ps(scales[3].as_ptr()),
            ]
        }
    }

    #[inline(always)]
    unsafe fn vector(&self, _group: usize, c: usize) -> __m512i {
        // SAFETY: the caller vouches for the instructions.
        unsafe { load(&self.0.q[c]) }
    }
}
