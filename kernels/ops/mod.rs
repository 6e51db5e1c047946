//! The operations, one folder each: formula, arguments and their check in `mod.rs`, plain loops
//! in `reference.rs`, the fast path in `cpu.rs`.
//!
//! Every backend calls the argument struct's `check` first. Arrays may be longer than their
//! shape says (buffers are made once for the longest batch); what lies beyond stays untouched.

pub mod attend;
pub mod attention;
pub(crate) mod batch;
pub mod embed;
pub mod gated;
pub mod logits;
pub mod matmul;
pub mod moe_combine;
pub mod moe_matmul;
pub mod moe_route;
pub mod registry;
pub mod rms_norm;
pub mod rope_append;
pub mod sample;

use std::ops::Range;

use crate::backend::Array;
use crate::error::{Error, Result};

/// A shape error of `op`.
pub(crate) fn shape_error(op: &'static str, detail: String) -> Error {
    Error::Shape { op, detail }
}

/// That `array` has room for an array of the shape `dims`.
pub(crate) fn check_room(
    op: &'static str,
    name: &str,
    array: &impl Array,
    dims: &[usize],
) -> Result<()> {
    let needed = dims.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim));
    match needed {
        Some(needed) if needed <= array.len() => Ok(()),
        _ => Err(shape_error(
            op,
            format!("{name} has {} values, too few for {dims:?}", array.len()),
        )),
    }
}

/// That `range` of `array` is there and fills `n_out` values.
pub(crate) fn check_download(array: &impl Array, range: &Range<usize>, n_out: usize) -> Result<()> {
    let is_there = range.start <= range.end && range.end <= array.len();
    match is_there && range.len() == n_out {
        true => Ok(()),
        false => {
            let n = array.len();
            Err(shape_error(
                "download",
                format!("values {range:?} of {n} do not fit {n_out} values"),
            ))
        }
    }
}

/// A size as kernels count it: in 31 bits, which is also what a grid can hold.
#[cfg(feature = "cuda")]
pub(crate) fn narrow(op: &'static str, size: usize) -> Result<u32> {
    i32::try_from(size)
        .map(i32::unsigned_abs)
        .map_err(|_| shape_error(op, format!("a size of {size} is too large for a GPU")))
}
