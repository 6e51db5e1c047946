//! `sample` on the CPU: rows are tasks. And the passes over the vocabulary, vectorised by the
//! compiler for each instruction set.
//!
//! One source for all: the bodies are plain loops over blocks, so every instruction set gives
//! the same bits.

use std::sync::{Mutex, PoisonError};

use super::fixed::{WEIGHT_BIAS, biased_weight, weight};
use super::{Sample, Sampled, Sampler};
use crate::cpu::Cpu;
use crate::cpu::isa::Isa;
use crate::cpu::memory::Shared;
use crate::error::Result;

/// Samplers that no thread uses just now.
pub(crate) type Samplers = Mutex<Vec<Sampler>>;

pub(crate) fn run(cpu: &Cpu, op: Sample<'_, Cpu>) -> Vec<Result<Sampled>> {
    let samplers = || cpu.samplers.lock().unwrap_or_else(PoisonError::into_inner);
    let mut drawn: Vec<Option<Result<Sampled>>> = op.rows.iter().map(|_| None).collect();
    let out = Shared::new(&mut drawn);
    cpu.pool.each(op.rows.len(), |i| {
        let held = samplers().pop();
        let mut sampler = held.unwrap_or_else(|| Sampler::with_isa(cpu.isa));
        let (row, logits) = (&op.rows[i], &op.logits[i * op.vocab..][..op.vocab]);
        let sampled = sampler.sample(
            logits,
            row.params,
            row.history,
            row.position,
            row.allowed,
            op.n_top,
        );
        // SAFETY: tasks have different rows.
        let place = unsafe { out.part(i..i + 1) };
        place[0] = Some(sampled);
        samplers().push(sampler);
    });
    drawn.into_iter().flatten().collect()
}

/// Tokens whose maximum and mass are kept together.
pub(super) const BLOCK: usize = 128;
/// Independent running maxima, as many as the widest registers want in flight.
const LANES: usize = 32;

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
    // NaN of either sign, its sign shifted out, is above +inf.
    const INFINITY: u32 = f32::INFINITY.to_bits() << 1;
    let mut largest = [0u32; LANES];
    let (blocks, rest) = logits.as_chunks::<BLOCK>();
    for (block, maximum) in blocks.iter().zip(&mut *maxima) {
        *maximum = block_max(block, &mut largest);
    }
    if !rest.is_empty() {
        let mut block = [f32::NEG_INFINITY; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        maxima[blocks.len()] = block_max(&block, &mut largest);
    }
    largest.iter().all(|&bits| bits <= INFINITY) && maxima.iter().all(|&m| is_logit(m))
}

/// The maximum of a block without its NaNs; keeps the largest magnitude bits in `largest`.
#[inline(always)]
fn block_max(block: &[f32; BLOCK], largest: &mut [u32; LANES]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for part in block.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            lanes[lane] = greater(part[lane], lanes[lane]);
            largest[lane] = largest[lane].max(part[lane].to_bits() << 1);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = greater(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The greater, or `b` if `a` is NaN: one instruction, which `f32::max` is not.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
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
        *mass = block_mass(block, max, scale);
    }
    if !rest.is_empty() {
        masses[blocks.len()] = block_mass(rest, max, scale);
    }
}

#[inline(always)]
fn block_mass(logits: &[f32], max: f32, scale: f32) -> u64 {
    let bias = WEIGHT_BIAS.wrapping_mul(logits.len() as u64);
    let biased = logits.iter().map(|&l| biased_weight((l - max) * scale));
    biased.fold(0, u64::wrapping_add).wrapping_sub(bias)
}

#[inline(always)]
fn weights_body(logits: &[f32], max: f32, scale: f32, weights: &mut [u64]) {
    for (&logit, out) in logits.iter().zip(weights) {
        *out = weight((logit - max) * scale);
    }
}
