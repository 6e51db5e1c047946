//! A `matmul` with a norm, a soft cap or a gate, put together from the operations that do each:
//! on a CPU what they pass on stays in the cache.

use std::sync::PoisonError;

use super::super::{Matmul, Norm};
use super::{Product, Rows, product};
use crate::backend::Dimensions;
use crate::cpu::{Buffer, Cpu};
use crate::error::{Error, Result};
use crate::ops::gated::{self, Gated};
use crate::ops::rms_norm::{self, RmsNorm};

/// What one step passes on to the next, kept by the backend.
#[derive(Default)]
pub(crate) struct Intermediates {
    normed: Option<Buffer>,
    product: Option<Buffer>,
    gated: Option<Buffer>,
}

pub(super) fn matmul(cpu: &Cpu, op: Matmul<'_, Cpu>) -> Result<()> {
    let mut intermediates = cpu
        .matmul_intermediates
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let Intermediates {
        normed,
        product,
        gated,
    } = &mut *intermediates;
    let x = match &op.norm {
        Some(norm) => normalise(cpu, &op, norm, normed)?,
        None => op.x,
    };
    let (n_rows, width, n_products) = (op.n_rows, op.out_width(), op.weight.rows());
    let plain = op.gate.is_none() && op.soft_cap.is_none();
    let linear = |accumulate, out| Product {
        x,
        rows: Rows::First(n_rows),
        weight: op.weight,
        bias: op.bias.map(|bias| &**bias),
        accumulate,
        out,
    };
    if plain {
        return self::product(cpu, linear(op.accumulate, op.out));
    }
    let products = sized(product, n_rows, n_products)?;
    self::product(cpu, linear(false, products))?;
    if let Some(cap) = op.soft_cap {
        for y in &mut products[..n_rows * n_products] {
            *y = cap * (*y / cap).tanh();
        }
    }
    let result = match op.gate {
        None => &*products,
        Some(activation) => {
            let to_gated = |out| Gated {
                gate_up: &*products,
                n_rows,
                width,
                activation,
                out,
            };
            if !op.accumulate {
                gated::cpu::run(cpu, to_gated(op.out));
                return Ok(());
            }
            let out = sized(gated, n_rows, width)?;
            gated::cpu::run(cpu, to_gated(&mut *out));
            out
        }
    };
    for (out, &y) in op.out.iter_mut().zip(&result[..n_rows * width]) {
        *out = if op.accumulate { *out + y } else { y };
    }
    Ok(())
}

/// The normalised rows of the inputs.
fn normalise<'a>(
    cpu: &Cpu,
    op: &Matmul<'_, Cpu>,
    norm: &Norm<'_, Cpu>,
    normed: &'a mut Option<Buffer>,
) -> Result<&'a Buffer> {
    let width = op.weight.cols();
    let out = sized(normed, op.n_rows, width)?;
    let rms_norm = RmsNorm {
        x: op.x,
        weight: norm.weight,
        n_rows: op.n_rows,
        width,
        epsilon: norm.epsilon,
        accumulate: false,
        out: &mut *out,
    };
    rms_norm::cpu::run(cpu, rms_norm);
    Ok(out)
}

/// The buffer, with room for `n_rows` rows.
fn sized(buffer: &mut Option<Buffer>, n_rows: usize, width: usize) -> Result<&mut Buffer> {
    let len = n_rows.checked_mul(width).ok_or(Error::OutOfMemory {
        what: "a matmul's intermediate results",
        bytes: usize::MAX,
    })?;
    match buffer {
        Some(held) if held.len() >= len => {}
        _ => *buffer = Some(Buffer::zeroed(len)?),
    }
    Ok(buffer.get_or_insert(Buffer::zeroed(0)?))
}
