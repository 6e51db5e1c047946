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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::cpu::testing::{error, machines, noise};

    #[test]
    fn it_agrees_with_f64_loops() {
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let gelu = |x: f64| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            x / 2.0 * (1.0 + u.tanh())
        };
        let functions: [(Activation, &dyn Fn(f64) -> f64); 2] =
            [(Activation::Silu, &silu), (Activation::GeluTanh, &gelu)];
        for cpu in machines() {
            for (n_rows, width) in [(1, 1), (1, 8960), (7, 24), (300, 33)] {
                for (activation, function) in functions {
                    let gate_up: Vec<f32> = (noise(4, n_rows * 2 * width).iter())
                        .map(|x| x * 9.0)
                        .collect();
                    let mut want = Vec::new();
                    for row in gate_up.chunks(2 * width) {
                        let (gate, up) = row.split_at(width);
                        let pairs = gate.iter().zip(up);
                        want.extend(pairs.map(|(&g, &u)| function(g.into()) * f64::from(u)));
                    }
                    let mut out = cpu.buffer(n_rows * width).unwrap();
                    cpu.gated(Gated {
                        gate_up: &cpu.upload(&gate_up).unwrap(),
                        n_rows,
                        width,
                        activation,
                        out: &mut out,
                    })
                    .unwrap();
                    let error = error(&out, &want);
                    assert!(error < 1e-6, "{activation:?} {n_rows} × {width}: {error:e}");
                }
            }
        }
    }
}
