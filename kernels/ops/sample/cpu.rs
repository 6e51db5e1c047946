//! The passes over the vocabulary, vectorised by the compiler for each instruction set.
//!
//! One source for all: the bodies are plain loops over blocks, so every instruction set gives
//! the same bits.

use super::fixed::weight;
use crate::cpu::isa::Isa;

/// Tokens whose maximum and mass are kept together.
pub(super) const BLOCK: usize = 128;
/// Independent running maxima, as many as the widest registers want in flight.
const LANES: usize = 64;

/// Defines `$name`, which runs `$body` compiled for the instruction set given.
macro_rules! for_each_isa {
    ($(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        pub(super) fn $name(isa: Isa, $($arg: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $kind),*) $(-> $result)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $kind),*) $(-> $result)? {
                    $body($($arg),*)
                }
                match isa.min(Isa::detect()) {
                    // SAFETY: the machine has been seen to have these features.
                    Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    Isa::Portable => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = isa;
            $body($($arg),*)
        }
    };
}

for_each_isa! {
    /// Writes the maximum of each block to `maxima`; false if there is NaN or +inf.
    scan = scan_body(logits: &[f32], maxima: &mut [f32]) -> bool
}
for_each_isa! {
    /// Writes the mass of each block to `masses`.
    masses = masses_body(logits: &[f32], max: f32, scale: f32, masses: &mut [u64])
}
for_each_isa! {
    /// Writes the weight of each logit to `weights`, which is as long.
    weights = weights_body(logits: &[f32], max: f32, scale: f32, weights: &mut [u64])
}

#[inline(always)]
fn scan_body(logits: &[f32], maxima: &mut [f32]) -> bool {
    let mut broken = [0u32; LANES];
    for (block, maximum) in logits.chunks(BLOCK).zip(maxima) {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (parts, rest) = block.as_chunks::<LANES>();
        for part in parts {
            for lane in 0..LANES {
                let logit = part[lane];
                lanes[lane] = if logit > lanes[lane] {
                    logit
                } else {
                    lanes[lane]
                };
                broken[lane] |= u32::from(!is_logit(logit));
            }
        }
        for (lane, &logit) in rest.iter().enumerate() {
            lanes[lane] = if logit > lanes[lane] {
                logit
            } else {
                lanes[lane]
            };
            broken[lane] |= u32::from(!is_logit(logit));
        }
        *maximum = lanes
            .into_iter()
            .fold(f32::NEG_INFINITY, |m, l| if l > m { l } else { m });
    }
    broken.iter().all(|&flag| flag == 0)
}

/// Whether a logit is neither NaN nor +inf.
#[inline(always)]
pub(super) fn is_logit(logit: f32) -> bool {
    logit < f32::INFINITY
}

#[inline(always)]
fn masses_body(logits: &[f32], max: f32, scale: f32, masses: &mut [u64]) {
    let (blocks, rest) = logits.as_chunks::<BLOCK>();
    for (block, mass) in blocks.iter().zip(&mut *masses) {
        *mass = block.iter().map(|&l| weight((l - max) * scale)).sum();
    }
    if !rest.is_empty() {
        masses[blocks.len()] = rest.iter().map(|&l| weight((l - max) * scale)).sum();
    }
}

#[inline(always)]
fn weights_body(logits: &[f32], max: f32, scale: f32, weights: &mut [u64]) {
    for (&logit, out) in logits.iter().zip(weights) {
        *out = weight((logit - max) * scale);
    }
}
