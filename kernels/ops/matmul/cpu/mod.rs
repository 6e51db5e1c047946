//! The fast `matmul` of the CPU: activations packed once, then every tile of every stacked
//! matrix in one fork and join.
//!
//! A few tokens (decoding) are bound by the weights' bytes: each worker streams one contiguous
//! run of tiles. Many tokens (prefill) are bound by arithmetic: a unit of work is a group of
//! tiles that stays in the second-level cache while all tokens pass by, a block of tokens at a
//! time, whose activations for a chunk of columns stay in the first-level cache.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_floats;
#[cfg(target_arch = "x86_64")]
mod avx512_pack;
#[cfg(target_arch = "x86_64")]
mod avx512_unpack;
#[cfg(target_arch = "x86_64")]
mod avx512_unpack4;
mod composed;
mod kernel;
mod plain;
mod plan;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use super::Matmul;
use crate::backend::Dimensions;
use crate::cpu::isa::has_avx512_bf16;
use crate::cpu::memory::Shared;
use crate::cpu::simd::{self, Simd, dispatch};
use crate::cpu::tiles::Expanded;
use crate::cpu::{Cpu, Isa, Matrix};
use crate::error::Result;

use activations::{Encoding, Layout, pack_panel, quantise};
use kernel::{Method, method};
use plan::{Epilogue, Packed, PartPlan};
use schedule::Schedule;

pub(crate) use activations::Rows;
pub(crate) use composed::Intermediates;

/// Memory that a matmul needs besides its arguments, kept by the backend.
#[derive(Default)]
pub(crate) struct Scratch {
    packed: [activations::Scratch; 3],
    /// One a worker.
    expanded: Vec<Mutex<Vec<Expanded>>>,
}

/// The product of rows of `x` with a matrix.
pub(crate) struct Product<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) rows: Rows<'a>,
    pub(crate) weight: &'a Matrix,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) accumulate: bool,
    pub(crate) out: &'a mut [f32],
}

/// Computes a checked [`Matmul`].
pub(crate) fn matmul(cpu: &Cpu, op: Matmul<'_, Cpu>) -> Result<()> {
    if op.norm.is_some() || op.soft_cap.is_some() || op.gate.is_some() {
        return composed::matmul(cpu, op);
    }
    product(
        cpu,
        Product {
            x: op.x,
            rows: Rows::First(op.n_rows),
            weight: op.weight,
            bias: op.bias.map(|bias| &**bias),
            accumulate: op.accumulate,
            out: op.out,
        },
    )
}

/// Computes a product whose shapes have been checked.
pub(crate) fn product(cpu: &Cpu, product: Product<'_>) -> Result<()> {
    let n_tokens = product.rows.len();
    if n_tokens == 0 || product.weight.rows() == 0 {
        return Ok(());
    }
    let mut scratch = cpu
        .matmul_scratch
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let Scratch { packed, expanded } = &mut *scratch;
    expanded.resize_with(cpu.n_threads(), Default::default);

    let has_bf16 = has_avx512_bf16();
    let parts = product.weight.parts();
    let methods: Vec<Method> = parts
        .iter()
        .map(|part| method(cpu.isa, has_bf16, part.format, n_tokens))
        .collect();
    // What a part's kernels take in a call suits the other parts in halves and thirds.
    let panel = methods.iter().map(|m| m.kernels.len()).max().unwrap_or(1);
    let mut all_packed = Vec::with_capacity(packed.len());
    for (encoding, scratch) in Encoding::ALL.into_iter().zip(packed) {
        if methods.iter().any(|method| method.encoding == encoding) {
            let layout = Layout::new(encoding, panel, n_tokens, product.weight.cols());
            let bytes = scratch.reserve(layout.bytes())?;
            pack(cpu, layout, &product, bytes);
            all_packed.push(Packed { layout, bytes });
        }
    }
    let plans: Vec<PartPlan<'_>> = (parts.iter().zip(methods))
        .flat_map(|(part, method)| {
            let packed = all_packed
                .iter()
                .find(|p| p.layout.encoding == method.encoding)?;
            Some(PartPlan::new(
                part,
                method,
                packed,
                n_tokens,
                cpu.n_threads(),
            ))
        })
        .collect();
    let to = Epilogue {
        bias: product.bias,
        accumulate: product.accumulate,
        rows: product.weight.rows(),
        out: Shared::new(product.out),
    };
    let n_units = plans.iter().map(PartPlan::n_units).sum();
    let schedule = Schedule::new(n_units, cpu.n_threads(), plan::least_steal(n_tokens));
    cpu.pool.run(|worker| {
        let mut expanded = expanded[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while let Some(mut unit) = schedule.next(worker) {
            for plan in &plans {
                if unit < plan.n_units() {
                    plan.compute(unit, &to, &mut expanded);
                    break;
                }
                unit -= plan.n_units();
            }
        }
    });
    Ok(())
}

/// Packs the activations of a product; few of them on this thread alone.
fn pack(cpu: &Cpu, layout: Layout, product: &Product<'_>, bytes: &mut [u8]) {
    let n_bytes = bytes.len();
    let bytes = Shared::new(bytes);
    let end = |panel| {
        if panel < layout.n_panels() {
            layout.offset(panel)
        } else {
            n_bytes
        }
    };
    cpu.pool.each(layout.n_panels(), |panel| {
        // SAFETY: panels do not overlap, and each is packed by one worker.
        let out = unsafe { bytes.part(layout.offset(panel)..end(panel + 1)) };
        let (x, rows) = (product.x, product.rows);
        let pack = PackPanel {
            layout,
            x,
            rows,
            panel,
            out,
        };
        #[cfg(target_arch = "x86_64")]
        if cpu.isa == Isa::Avx512 {
            // SAFETY: the machine has the instructions of `isa`.
            unsafe { avx512_pack::pack_panel(pack) };
            return;
        }
        dispatch(cpu.isa, pack);
    });
}

/// The arguments of [`pack_panel`].
struct PackPanel<'a> {
    layout: Layout,
    x: &'a [f32],
    rows: Rows<'a>,
    panel: usize,
    out: &'a mut [u8],
}

impl simd::Kernel for PackPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        pack_panel(
            self.layout,
            self.x,
            self.rows,
            self.panel,
            quantise,
            self.out,
        );
    }
}
