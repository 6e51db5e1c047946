//! `embed` on the CPU: rows decoded straight from their tiles.

use super::Embed;
use crate::backend::Dimensions;
use crate::cpu::Cpu;
use crate::cpu::memory::Shared;

/// Computes a checked [`Embed`].
pub(crate) fn run(cpu: &Cpu, op: Embed<'_, Cpu>) {
    let width = op.table.cols();
    let out = Shared::new(&mut op.out[..op.tokens.len() * width]);
    cpu.pool.split(op.tokens.len(), 4, |rows| {
        for row in rows {
            // SAFETY: workers have different rows.
            let out = unsafe { out.part(row * width..(row + 1) * width) };
            op.table.row(op.tokens[row] as usize, out);
            out.iter_mut().for_each(|x| *x *= op.scale);
        }
    });
}
