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
    products(cpu, vec![product])
}

/// Computes products whose shapes have been checked, in one fork and join. Each has the bits
/// that it has alone.
pub(crate) fn products(cpu: &Cpu, mut products: Vec<Product<'_>>) -> Result<()> {
    products.retain(|product| product.rows.len() > 0 && product.weight.rows() > 0);
    let Some(n_tokens) = products.iter().map(|product| product.rows.len()).max() else {
        return Ok(());
    };
    let mut scratch = cpu
        .matmul_scratch
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let Scratch { packed, expanded } = &mut *scratch;
    expanded.resize_with(cpu.n_threads(), Default::default);

    let methods: Vec<_> = products.iter().map(|p| methods(cpu, p)).collect();
    let packed = pack_all(cpu, &products, &methods, packed)?;
    let mut plans = Vec::new();
    let mut n_units = 0;
    for (index, methods) in methods.iter().enumerate() {
        let product = &products[index];
        for (part, &method) in product.weight.parts().iter().zip(methods) {
            let found = (packed.iter())
                .find(|(owner, p)| *owner == index && p.layout.encoding == method.encoding);
            let Some((_, packed)) = found else { continue };
            let plan = PartPlan::new(part, method, packed, product.rows.len(), cpu.n_threads());
            plans.push((n_units, index, plan));
            n_units += plans.last().map_or(0, |(_, _, plan)| plan.n_units());
        }
    }
    let epilogues: Vec<Epilogue<'_>> = products.into_iter().map(Epilogue::of).collect();
    let schedule = Schedule::new(n_units, cpu.n_threads(), plan::least_steal(n_tokens));
    cpu.pool.run(|worker| {
        let mut expanded = expanded[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while let Some(unit) = schedule.next(worker) {
            let plan = plans.partition_point(|(first, _, _)| *first <= unit) - 1;
            let (first, product, plan) = &plans[plan];
            plan.compute(unit - first, &epilogues[*product], &mut expanded);
        }
    });
    Ok(())
}

/// How to multiply with each part of a product's matrix.
fn methods(cpu: &Cpu, product: &Product<'_>) -> Vec<Method> {
    let has_bf16 = has_avx512_bf16();
    let parts = product.weight.parts().iter();
    parts
        .map(|part| method(cpu.isa, has_bf16, part.format, product.rows.len()))
        .collect()
}

/// Packs the activations of all products, in each encoding that one's methods ask for; with the
/// number of the product.
fn pack_all<'s>(
    cpu: &Cpu,
    products: &[Product<'_>],
    methods: &[Vec<Method>],
    scratch: &'s mut [activations::Scratch; 3],
) -> Result<Vec<(usize, Packed<'s>)>> {
    let mut all_packed = Vec::new();
    for (encoding, scratch) in Encoding::ALL.into_iter().zip(scratch) {
        let mut layouts = Vec::new();
        for (index, (product, methods)) in products.iter().zip(methods).enumerate() {
            if methods.iter().any(|method| method.encoding == encoding) {
                // What a part's kernels take in a call suits the other parts in halves and
                // thirds.
                let panel = methods.iter().map(|m| m.kernels.len()).max().unwrap_or(1);
                let (n_tokens, cols) = (product.rows.len(), product.weight.cols());
                layouts.push((index, Layout::new(encoding, panel, n_tokens, cols)));
            }
        }
        let mut rest = match layouts.iter().map(|(_, layout)| layout.bytes()).sum() {
            0 => continue,
            bytes => scratch.reserve(bytes)?,
        };
        for (index, layout) in layouts {
            let (bytes, behind) = rest.split_at_mut(layout.bytes());
            rest = behind;
            pack(cpu, layout, &products[index], bytes);
            all_packed.push((index, Packed { layout, bytes }));
        }
    }
    Ok(all_packed)
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
