//! `moe_combine` on the CPU: the rows' elements in equal shares, also those of a single row.

use super::MoeCombine;
use crate::backend::RoutesArray;
use crate::cpu::memory::Shared;
use crate::cpu::simd::{Kernel, LANES, Simd, dispatch};
use crate::cpu::{Cpu, SHARE};
use crate::ops::moe_route::Routes;

pub(crate) fn run(cpu: &Cpu, op: MoeCombine<'_, Cpu>) {
    let width = op.width;
    let top_k = op.routes.shape().top_k;
    let out = Shared::new(&mut op.out[..op.n_rows * width]);
    cpu.pool
        .split(op.n_rows * width, SHARE / top_k, |elements| {
            let mut at = elements.start;
            while at < elements.end {
                let (row, first) = (at / width, at % width);
                let len = (width - first).min(elements.end - at);
                let part = Part {
                    x: op.x,
                    routes: op.routes,
                    slots: row * top_k..(row + 1) * top_k,
                    width,
                    first,
                    accumulate: op.accumulate,
                    // SAFETY: workers have different elements.
                    out: unsafe { out.part(at..at + len) },
                };
                dispatch(cpu.isa, part);
                at += len;
            }
        });
}

/// Elements of one row from `first` on.
struct Part<'a> {
    x: &'a [f32],
    routes: &'a Routes,
    slots: std::ops::Range<usize>,
    width: usize,
    first: usize,
    accumulate: bool,
    out: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (index, out) in self.out.chunks_mut(LANES).enumerate() {
            let first = self.first + index * LANES;
            let mut y = s.splat(0.0);
            for slot in self.slots.clone() {
                let start = self.routes.places[slot] as usize * self.width + first;
                let x = s.load_chunk(&self.x[start..start + out.len()]);
                // Rounded twice, as the other backends do.
                y = s.add(y, s.mul(s.splat(self.routes.weights[slot]), x));
            }
            if self.accumulate {
                y = s.add(s.load_chunk(out), y);
            }
            s.store_chunk(y, out);
        }
    }
}
