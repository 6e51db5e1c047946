//! Quantisation of activations with AVX-512: the bits of the plain one, in a fifth of its time.

use std::arch::x86_64::*;

use super::PackPanel;
use super::activations::{self, BLOCK, Meta};

/// Packs one panel.
///
/// # Safety
/// The machine has AVX-512 F.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn pack_panel(pack: PackPanel<'_>) {
    let PackPanel {
        layout,
        x,
        rows,
        panel,
        out,
    } = pack;
    activations::pack_panel(layout, x, rows, panel, |x, out| quantise(x, out), out);
}

/// As [`activations::quantise`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn quantise(x: &[f32; BLOCK], out: &mut [u8]) -> Meta {
    let out = &mut out[..BLOCK];
    // SAFETY: 16 of 32 values each are read.
    let (first, second) = unsafe {
        (
            _mm512_loadu_ps(x.as_ptr()),
            _mm512_loadu_ps(x.as_ptr().add(BLOCK / 2)),
        )
    };
    let bits = _mm512_set1_epi32(0x7fff_ffff);
    let magnitude = |x| _mm512_and_si512(_mm512_castps_si512(x), bits);
    let greatest = _mm512_max_epu32(magnitude(first), magnitude(second));
    let amax = f32::from_bits(_mm512_reduce_max_epu32(greatest));
    let (scale, inverse) = activations::scale(amax);
    let inverse = _mm512_set1_ps(inverse);
    // Conversions round to nearest, ties to even; of a block with NaN nothing remains.
    let mask = if amax.is_finite() { u16::MAX } else { 0 };
    let first = _mm512_maskz_cvtps_epi32(mask, _mm512_mul_ps(first, inverse));
    let second = _mm512_maskz_cvtps_epi32(mask, _mm512_mul_ps(second, inverse));
    // SAFETY: 16 of 32 bytes each are written.
    unsafe {
        _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(first));
        let half = out.as_mut_ptr().add(BLOCK / 2);
        _mm_storeu_si128(half.cast(), _mm512_cvtepi32_epi8(second));
    }
    Meta::new(
        scale,
        [
            _mm512_reduce_add_epi32(first),
            _mm512_reduce_add_epi32(second),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn bits_are_those_of_the_plain_quantisation() {
        if Isa::detect() != Isa::Avx512 {
            return;
        }
        for i in 0..2000 {
            let scale = 10f32.powi(i % 70 - 38);
            let mut x: [f32; BLOCK] =
                std::array::from_fn(|j| ((i as usize * BLOCK + j) as f32 * 0.37).sin() * scale);
            if i % 50 == 0 {
                x[7] = [f32::NAN, f32::INFINITY, 0.0, f32::MAX][i as usize / 50 % 4];
            }
            let (mut plain, mut fast) = ([1; BLOCK], [2; BLOCK]);
            let expected = activations::quantise(&x, &mut plain);
            // SAFETY: the machine has AVX-512.
            let found = unsafe { quantise(&x, &mut fast) };
            assert_eq!(fast, plain, "{x:?}");
            if !expected.scale.is_nan() {
                assert_eq!(bytemuck::bytes_of(&found), bytemuck::bytes_of(&expected));
            }
            assert_eq!(found.scale.is_nan(), expected.scale.is_nan());
        }
    }
}
