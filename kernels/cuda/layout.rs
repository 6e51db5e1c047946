//! The formats that have tiles, and the kernels that work on them.

use super::abi::{
    MATMUL_BYTES_STEP_BYTES, MATMUL_EXPONENT_RECORD_BYTES, MATMUL_FIVE_BITS_STEP_BYTES,
    MATMUL_HALF_STEP_BYTES, MATMUL_K_QUANT_RECORD_BYTES, MATMUL_MINIMUM_RECORD_BYTES,
    MATMUL_NIBBLES_STEP_BYTES, MATMUL_Q6_K_RECORD_BYTES, MATMUL_Q6_K_STEP_BYTES,
    MATMUL_SCALE_RECORD_BYTES, MATMUL_SUPER_BLOCK_STEPS, MATMUL_WIDE_ZERO_RECORD_BYTES,
    MATMUL_WIDE_ZERO_STEPS, MATMUL_ZERO_RECORD_BYTES,
};
use crate::quant::Format;

/// What the host has to know of a format's tiles (`ops/matmul/tiles.cuh`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    /// Bytes of a tile's integers for a step.
    pub(crate) step_bytes: u32,
    /// Bytes of a record of scales; 0 where there are none.
    pub(crate) record_bytes: u32,
    /// Steps that share a record.
    pub(crate) record_steps: u32,
    /// Whether a record has minima, which meet the activations' sums.
    pub(crate) has_minima: bool,
    /// Whether activations are rounded to bf16, not f16.
    pub(crate) bf16: bool,
    /// The kernel of `retile.cu`.
    pub(crate) retile: &'static str,
    /// The kernel of `embed.cu`.
    pub(crate) embed: &'static str,
    /// The module of the others.
    pub(crate) module: &'static str,
    /// The kernel for up to eight tokens.
    pub(crate) decode: &'static str,
    /// The module of the next.
    pub(crate) hopper_module: &'static str,
    /// The kernel for many tokens on Hopper.
    pub(crate) hopper: &'static str,
    /// The module of the kernels for experts.
    pub(crate) experts_module: &'static str,
    /// The kernel for up to eight tokens of an expert.
    pub(crate) experts_decode: &'static str,
    /// The kernels for more, and the places of their blocks.
    pub(crate) experts_prefill: [(u32, &'static str); 2],
    /// The kernels for more, and the tokens of their blocks.
    pub(crate) prefill: [(u32, &'static str); 3],
}

impl Tiling {
    /// The same with minima.
    fn with_minima(self) -> Self {
        Self {
            has_minima: true,
            ..self
        }
    }
}

macro_rules! tiling {
    ($module:literal, $name:literal, $step_bytes:expr, $record_bytes:expr, $record_steps:expr) => {
        Tiling {
            step_bytes: $step_bytes,
            record_bytes: $record_bytes,
            record_steps: $record_steps,
            has_minima: false,
            bf16: false,
            retile: concat!("retile_", $name),
            embed: concat!("embed_", $name),
            module: concat!("matmul_", $module),
            decode: concat!("matmul_", $name, "_decode"),
            hopper_module: concat!("matmul_hopper_", $module),
            hopper: concat!("matmul_", $name, "_hopper"),
            experts_module: concat!("moe_matmul_", $module),
            experts_decode: concat!("moe_", $name, "_decode"),
            experts_prefill: [
                (32, concat!("moe_", $name, "_n32")),
                (64, concat!("moe_", $name, "_n64")),
            ],
            prefill: [
                (16, concat!("matmul_", $name, "_n16")),
                (32, concat!("matmul_", $name, "_n32")),
                (64, concat!("matmul_", $name, "_n64")),
            ],
        }
    };
}

/// The tiles of a format; None for F32, whose rows stay as they are.
pub(crate) fn tiling(format: Format) -> Option<Tiling> {
    const HALF: u32 = MATMUL_HALF_STEP_BYTES;
    const BYTES: u32 = MATMUL_BYTES_STEP_BYTES;
    const FOUR: u32 = MATMUL_NIBBLES_STEP_BYTES;
    const FIVE: u32 = MATMUL_FIVE_BITS_STEP_BYTES;
    const SIX: u32 = MATMUL_Q6_K_STEP_BYTES;
    const SCALE: u32 = MATMUL_SCALE_RECORD_BYTES;
    const MINIMUM: u32 = MATMUL_MINIMUM_RECORD_BYTES;
    const ZERO: u32 = MATMUL_ZERO_RECORD_BYTES;
    const WIDE_ZERO: u32 = MATMUL_WIDE_ZERO_RECORD_BYTES;
    const K_QUANT: u32 = MATMUL_K_QUANT_RECORD_BYTES;
    const SUPER: u32 = MATMUL_SUPER_BLOCK_STEPS;
    const WIDE: u32 = MATMUL_WIDE_ZERO_STEPS;
    Some(match format {
        Format::F32 => return None,
        Format::F16 => tiling!("floats", "f16", HALF, 0, 1),
        Format::Bf16 => Tiling {
            bf16: true,
            ..tiling!("floats", "bf16", HALF, 0, 1)
        },
        Format::F8E4M3 => tiling!("floats", "f8_e4m3", BYTES, 0, 1),
        Format::Q8_0 => tiling!("bytes", "q8_0", BYTES, SCALE, 1),
        Format::Q4_0 => tiling!("nibbles", "q4_0", FOUR, SCALE, 1),
        Format::Q4_1 => tiling!("nibbles", "q4_1", FOUR, MINIMUM, 1).with_minima(),
        Format::Mxfp4 => tiling!("nibbles", "mxfp4", FOUR, MATMUL_EXPONENT_RECORD_BYTES, 1),
        Format::Int4G32 => tiling!("nibbles", "int4_g32", FOUR, ZERO, 1),
        Format::Int4G128 => tiling!("nibbles", "int4_g128", FOUR, WIDE_ZERO, WIDE),
        Format::Q5_0 => tiling!("five_bits", "q5_0", FIVE, SCALE, 1),
        Format::Q5_1 => tiling!("five_bits", "q5_1", FIVE, MINIMUM, 1).with_minima(),
        Format::Q4K => tiling!("k_quants", "q4_k", FOUR, K_QUANT, SUPER).with_minima(),
        Format::Q5K => tiling!("k_quants", "q5_k", FIVE, K_QUANT, SUPER).with_minima(),
        Format::Q6K => tiling!("k_quants", "q6_k", SIX, MATMUL_Q6_K_RECORD_BYTES, SUPER),
    })
}
