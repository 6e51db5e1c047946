//! `embed` on the CPU: rows decoded straight from their tiles.

use super::Embed;
use crate::backend::Dimensions;
use crate::cpu::Cpu;
use crate::cpu::memory::Shared;

/// Computes a checked [`Embed`].
pub(crate) fn run(cpu: &Cpu, op: Embed<'_, Cpu>) {
    let width = op.table.cols();
    let out = Shared::new(&mut op.out[..op.batch.n_rows() * width]);
    cpu.pool.split(op.batch.n_rows(), 4, |rows| {
        for row in rows {
            // SAFETY: workers have different rows.
            let out = unsafe { out.part(row * width..(row + 1) * width) };
            op.table.row(op.batch.tokens[row] as usize, out);
            out.iter_mut().for_each(|x| *x *= op.scale);
        }
    });
}
