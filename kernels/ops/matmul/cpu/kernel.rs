//! What a microkernel is, and which one serves a format on a machine.

use super::activations::{Encoding, Meta};
use super::plain;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, avx512_floats};
use crate::cpu::Isa;
use crate::cpu::tiles::{Expanded, StepBf16, StepF8E4M3, StepF16, StepF32, with_quant_step};
use crate::quant::Format;

/// One call of a microkernel: the sums of one tile over a run of steps, for as many neighbouring
/// tokens as the kernel was made for.
pub(super) struct Call {
    /// The first step: of the kernel's step type, aligned to 64 bytes.
    pub(super) steps: *const u8,
    /// Steps to sum over.
    pub(super) n_steps: usize,
    /// Packed activations of the first token at the first step's first column.
    pub(super) acts: *const u8,
    /// The first token's [`Meta`] there; dangling for floats.
    pub(super) meta: *const Meta,
    /// Bytes from one unit of the activations to the next.
    pub(super) unit_stride: usize,
    /// Where the tile's first row goes for the first token.
    pub(super) out: *mut f32,
    /// Values from one token's row of `out` to the next.
    pub(super) out_stride: usize,
    /// Rows that the tile really has, 1 to 16; only these are read from `bias` and `out`, and
    /// written.
    pub(super) n_rows: usize,
    /// What the sums begin with for every token, or null.
    pub(super) bias: *const f32,
    /// Whether the sums go on from what `out` holds.
    pub(super) resume: bool,
}

/// A microkernel.
///
/// # Safety
/// The machine has the instructions of the kernel's `target_feature`; the pointers of the call
/// are valid for the steps, tokens and rows that it and the kernel name, and nobody else
/// touches those rows of `out` meanwhile.
pub(super) type Kernel = unsafe fn(&Call);

/// Unpacks steps, one after the other, into groups of 64 columns.
///
/// # Safety
/// The machine has the instructions of the function's `target_feature`. `steps` is a whole
/// number of steps, aligned to 64 bytes, and `out` has room for their groups.
pub(super) type Expand = unsafe fn(steps: &[u8], out: &mut [Expanded]);

/// How to multiply with weights of one format.
#[derive(Clone, Copy)]
pub(super) struct Method {
    /// How the kernels want the activations.
    pub(super) encoding: Encoding,
    /// The kernel for `n` tokens at `n − 1`.
    pub(super) kernels: &'static [Kernel],
    /// If there, the kernels' steps are what it makes of the tile's.
    pub(super) expand: Option<Expand>,
    /// The columns that one pass over the tiles of a unit takes; bounds what the activations of
    /// a few tokens occupy in the first-level cache.
    pub(super) chunk_cols: usize,
}

/// From this many tokens on, unpacking Q6_K once for all of them is faster.
#[cfg(target_arch = "x86_64")]
const EXPAND_Q6K_FROM: usize = 16;

/// The method for a format. Kernels for the same format and instructions give the same bits
/// however many tokens they take and whether or not they expand.
pub(super) fn method(isa: Isa, has_bf16: bool, format: Format, n_tokens: usize) -> Method {
    match isa {
        Isa::Portable => portable(format),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2(format),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512(has_bf16, format, n_tokens),
        #[cfg(not(target_arch = "x86_64"))]
        _ => portable(format),
    }
}

const fn floats(kernels: &'static [Kernel]) -> Method {
    Method {
        encoding: Encoding::F32,
        kernels,
        expand: None,
        chunk_cols: 256,
    }
}

const fn expanding(kernels: &'static [Kernel], expand: Expand) -> Method {
    Method {
        encoding: Encoding::Int8,
        kernels,
        expand: Some(expand),
        chunk_cols: 512,
    }
}

fn portable(format: Format) -> Method {
    match format {
        Format::F32 => floats(const { &plain::float_kernels::<StepF32>() }),
        Format::F16 => floats(const { &plain::float_kernels::<StepF16>() }),
        Format::Bf16 => floats(const { &plain::float_kernels::<StepBf16>() }),
        Format::F8E4M3 => floats(const { &plain::float_kernels::<StepF8E4M3>() }),
        _ => with_quant_step!(
            format,
            S => expanding(const { &plain::quant_kernels::<S>() }, plain::expand::<S>),
            unreachable!()
        ),
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2(format: Format) -> Method {
    match format {
        Format::F32 => floats(const { &avx2::float_kernels::<StepF32>() }),
        Format::F16 => floats(const { &avx2::float_kernels::<StepF16>() }),
        Format::Bf16 => floats(const { &avx2::float_kernels::<StepBf16>() }),
        Format::F8E4M3 => floats(const { &avx2::float_kernels::<StepF8E4M3>() }),
        _ => with_quant_step!(
            format,
            S => expanding(const { &avx2::quant_kernels::<S>() }, avx2::expand::<S>),
            unreachable!()
        ),
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512(has_bf16: bool, format: Format, n_tokens: usize) -> Method {
    match format {
        Format::F32 => floats(const { &avx512_floats::kernels::<StepF32>() }),
        Format::F16 => floats(const { &avx512_floats::kernels::<StepF16>() }),
        Format::Bf16 if has_bf16 => Method {
            encoding: Encoding::Bf16,
            ..floats(const { &avx512_floats::bf16_kernels() })
        },
        Format::Bf16 => floats(const { &avx512_floats::kernels::<StepBf16>() }),
        Format::F8E4M3 => floats(const { &avx512_floats::kernels::<StepF8E4M3>() }),
        Format::Q6K if n_tokens >= EXPAND_Q6K_FROM => Method {
            encoding: Encoding::Int8,
            kernels: const { &avx512::six_bit_kernels::<avx512::ExpandedQ6K>() },
            expand: Some(avx512::expand_q6k),
            chunk_cols: 768,
        },
        Format::Q6K => direct(const { &avx512::six_bit_kernels::<crate::cpu::tiles::StepQ6K>() }),
        _ => with_quant_step!(
            format,
            S => direct(const { &avx512::kernels::<S>() }),
            unreachable!()
        ),
    }
}

#[cfg(target_arch = "x86_64")]
const fn direct(kernels: &'static [Kernel]) -> Method {
    Method {
        encoding: Encoding::Int8,
        kernels,
        expand: None,
        chunk_cols: 1536,
    }
}
