//! `gated` on the CPU: the rows' elements in equal shares, also those of a single row.

use super::{Activation, Gated};
use crate::cpu::memory::Shared;
use crate::cpu::simd::{Kernel, LANES, Simd, dispatch};
use crate::cpu::{Cpu, SHARE, math};

pub(crate) fn run(cpu: &Cpu, op: Gated<'_, Cpu>) {
    let width = op.width;
    let out = Shared::new(&mut op.out[..op.n_rows * width]);
    // An element costs about four of a norm's.
    cpu.pool.split(op.n_rows * width, SHARE / 4, |elements| {
        let mut at = elements.start;
        while at < elements.end {
            let (row, first) = (at / width, at % width);
            let len = (width - first).min(elements.end - at);
            let gate = row * 2 * width + first;
            dispatch(
                cpu.isa,
                Part {
                    gate: &op.gate_up[gate..gate + len],
                    up: &op.gate_up[gate + width..gate + width + len],
                    activation: op.activation,
                    // SAFETY: workers have different elements.
                    out: unsafe { out.part(at..at + len) },
                },
            );
            at += len;
        }
    });
}

struct Part<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    activation: Activation,
    out: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let chunks = self.gate.chunks(LANES).zip(self.up.chunks(LANES));
        for ((gate, up), out) in chunks.zip(self.out.chunks_mut(LANES)) {
            let gate = s.load_chunk(gate);
            let gate = match self.activation {
                Activation::Silu => math::silu(s, gate),
                Activation::GeluTanh => math::gelu_tanh(s, gate),
            };
            s.store_chunk(s.mul(gate, s.load_chunk(up)), out);
        }
    }
}
