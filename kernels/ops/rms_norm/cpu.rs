//! `rms_norm` on the CPU. A row's sum of squares runs over four vectors of sixteen lanes whose
//! order depends on the width alone.

use super::RmsNorm;
use crate::cpu::memory::Shared;
use crate::cpu::simd::{Kernel, LANES, Simd, dispatch};
use crate::cpu::{Cpu, SHARE};

pub(crate) fn run(cpu: &Cpu, op: RmsNorm<'_, Cpu>) {
    let width = op.width;
    let out = Shared::new(&mut op.out[..op.n_rows * width]);
    cpu.pool.split(op.n_rows, SHARE.div_ceil(width), |rows| {
        let elements = rows.start * width..rows.end * width;
        dispatch(
            cpu.isa,
            Rows {
                x: &op.x[elements.clone()],
                weight: &op.weight[..width],
                epsilon: op.epsilon,
                accumulate: op.accumulate,
                // SAFETY: workers have different rows.
                out: unsafe { out.part(elements) },
            },
        );
    });
}

struct Rows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    accumulate: bool,
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.weight.len();
        for (x, out) in self
            .x
            .chunks_exact(width)
            .zip(self.out.chunks_exact_mut(width))
        {
            let factor = s.splat(normaliser(s, x, self.epsilon));
            let chunks = x.chunks(LANES).zip(self.weight.chunks(LANES));
            for ((x, weight), out) in chunks.zip(out.chunks_mut(LANES)) {
                let y = s.mul(s.mul(s.load_chunk(x), factor), s.load_chunk(weight));
                let y = if self.accumulate {
                    s.add(s.load_chunk(out), y)
                } else {
                    y
                };
                s.store_chunk(y, out);
            }
        }
    }
}

/// `1 / sqrt(mean x² + epsilon)`.
#[inline(always)]
pub(crate) fn normaliser<S: Simd>(s: S, x: &[f32], epsilon: f32) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    for block in x.chunks(4 * LANES) {
        for (sum, x) in sums.iter_mut().zip(block.chunks(LANES)) {
            let x = s.load_chunk(x);
            *sum = s.fma(x, x, *sum);
        }
    }
    let sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    1.0 / (sum / x.len() as f32 + epsilon).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::cpu::testing::{error, machines, noise};

    #[test]
    fn it_agrees_with_f64_loops() {
        for cpu in machines() {
            for (n_rows, width) in [(1, 1), (7, 24), (64, 640), (300, 100), (3, 9000)] {
                for accumulate in [false, true] {
                    let x = noise(1, n_rows * width);
                    let weight = noise(2, width);
                    let before = noise(3, n_rows * width + 1);
                    let mut want = before.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                    for (x, want) in x.chunks(width).zip(want.chunks_mut(width)) {
                        let squares = x.iter().map(|&x| f64::from(x) * f64::from(x));
                        let norm = (squares.sum::<f64>() / width as f64 + 1e-3).sqrt();
                        for ((want, &x), &weight) in want.iter_mut().zip(x).zip(&weight) {
                            let y = f64::from(x) / norm * f64::from(weight);
                            *want = if accumulate { *want + y } else { y };
                        }
                    }
                    let mut out = cpu.upload(&before).unwrap();
                    cpu.rms_norm(RmsNorm {
                        x: &cpu.upload(&x).unwrap(),
                        weight: &cpu.upload(&weight).unwrap(),
                        n_rows,
                        width,
                        epsilon: 1e-3,
                        accumulate,
                        out: &mut out,
                    })
                    .unwrap();
                    let error = error(&out, &want);
                    assert!(error < 1e-6, "{n_rows} × {width}: {error:e}");
                }
            }
        }
    }
}
