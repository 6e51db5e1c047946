//! The scratch memory of products, known from their shapes.

use super::super::hopper::LEAST_TOKENS;
use super::prefill::{packed_bytes, packed_steps};
use crate::cuda::abi::MATMUL_GROUP_TOKENS;
use crate::cuda::layout::tiling;
use crate::error::Result;
use crate::memory::Stack;
use crate::ops::narrow;
use crate::quant::Format;

/// The products of a gated matrix.
pub(super) const GATED: &str = "products before their gates";
/// Normalised activations, for rows of F32.
pub(super) const NORMALISED: &str = "normalised activations";
/// Activations packed in f16, and in bf16.
pub(super) const PACKED: [&str; 2] = ["activations packed in f16", "activations packed in bf16"];
/// Activations packed for Hopper's kernels.
pub(in crate::ops::matmul) const PACKED_FOR_HOPPER: &str = "packed activations";

/// Tells `note` of each piece of scratch memory that products with `stack` may ask for, where
/// weights of `hopper_formats` have kernels of Hopper's.
///
/// # Errors
/// A matrix larger than kernels count.
pub(crate) fn scratch(
    stack: &Stack<'_>,
    hopper_formats: &[Format],
    note: &mut dyn FnMut(&'static str, usize),
) -> Result<()> {
    const OP: &str = "matmul";
    let rows: usize = stack.sources.iter().map(|source| source.rows).sum();
    let cols = stack.sources.first().map_or(0, |source| source.cols);
    let floats = |n: usize| {
        stack
            .n_rows
            .saturating_mul(n)
            .saturating_mul(size_of::<f32>())
    };
    if stack.is_gated {
        note(GATED, floats(rows));
    }
    let n_tokens = narrow(OP, stack.n_rows)?;
    for source in &stack.sources {
        match tiling(source.format) {
            None if stack.has_norm => note(NORMALISED, floats(cols)),
            Some(tiling) if n_tokens > MATMUL_GROUP_TOKENS => {
                let bytes = packed_bytes(n_tokens, packed_steps(narrow(OP, cols)?));
                note(PACKED[usize::from(tiling.bf16)], bytes);
                // Packed to as many columns or to fewer.
                if n_tokens >= LEAST_TOKENS && hopper_formats.contains(&source.format) {
                    note(PACKED_FOR_HOPPER, bytes);
                }
            }
            _ => {}
        }
    }
    Ok(())
}
