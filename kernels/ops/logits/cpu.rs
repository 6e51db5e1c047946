//! `logits` on the CPU: the matmul of the chosen rows, then scale and soft cap.

use super::Logits;
use crate::backend::Dimensions;
use crate::cpu::memory::Shared;
use crate::cpu::{Cpu, SHARE};
use crate::error::Result;
use crate::ops::matmul::cpu::{Product, Rows, product};

/// Computes a checked [`Logits`].
pub(crate) fn run(cpu: &Cpu, op: Logits<'_, Cpu>) -> Result<()> {
    let out = &mut op.out[..op.rows.len() * op.weight.rows()];
    product(
        cpu,
        Product {
            x: op.x,
            rows: Rows::Chosen(op.rows),
            weight: op.weight,
            bias: None,
            accumulate: false,
            out,
        },
    )?;
    if op.scale == 1.0 && op.soft_cap.is_none() {
        return Ok(());
    }
    let n_values = out.len();
    let out = Shared::new(out);
    cpu.pool.split(n_values, SHARE, |values| {
        // SAFETY: workers have different values.
        for y in unsafe { out.part(values) } {
            *y *= op.scale;
            if let Some(cap) = op.soft_cap {
                *y = cap * (*y / cap).tanh();
            }
        }
    });
    Ok(())
}
