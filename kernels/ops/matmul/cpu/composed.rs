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
    let (n_rows, width) = (op.n_rows, op.out_width());
    let x = match &op.norm {
        Some(norm) => normalise(cpu, &op, norm, normed)?,
        None => op.x,
    };
    let products = multiply(cpu, &op, x, product)?;
    let n_outputs = n_rows * width;
    let result = match op.gate {
        Some(activation) => {
            let out = sized(gated, n_rows, width)?;
            let gate_up = products;
            let op = Gated {
                gate_up,
                n_rows,
                width,
                activation,
                out,
            };
            gated::cpu::run(cpu, op);
            &gated.as_ref().unwrap_or(products)[..n_outputs]
        }
        None => &products[..n_outputs],
    };
    for (out, &y) in op.out.iter_mut().zip(result) {
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

/// The rows of the product, biased and capped.
fn multiply<'a>(
    cpu: &Cpu,
    op: &Matmul<'_, Cpu>,
    x: &Buffer,
    products: &'a mut Option<Buffer>,
) -> Result<&'a Buffer> {
    let rows = op.weight.rows();
    let out = sized(products, op.n_rows, rows)?;
    let linear = Product {
        x,
        rows: Rows::First(op.n_rows),
        weight: op.weight,
        bias: op.bias.map(|bias| &**bias),
        accumulate: false,
        out: &mut *out,
    };
    product(cpu, linear)?;
    if let Some(cap) = op.soft_cap {
        for y in &mut out[..op.n_rows * rows] {
            *y = cap * (*y / cap).tanh();
        }
    }
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
