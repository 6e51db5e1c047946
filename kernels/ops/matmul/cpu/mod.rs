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
mod avx512_unpack;
mod kernel;
mod plain;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};

use bytemuck::Zeroable;

use super::Matmul;
use crate::cpu::isa::has_avx512_bf16;
use crate::cpu::matrix::Part;
use crate::cpu::tiles::{Expanded, GROUP, TILE_ROWS, step_bytes, step_cols};
use crate::cpu::{Cpu, Isa, Matrix};
use crate::backend::Dimensions;
use crate::error::Result;

use activations::{Encoding, Layout, PANEL, pack_panel};
use kernel::{Call, Method, method};
use schedule::Schedule;

pub(crate) use activations::Rows;

/// Up to this many tokens one kernel call takes them all, mostly: nothing is gained by blocking.
const FEW_TOKENS: usize = 12;
/// Bytes of weights in a unit of few tokens: small enough to share, large enough to stream.
const STREAM_BYTES: usize = 32 << 10;
/// Bytes of weights, expanded or not, that stay in the second-level cache beside activations.
const CACHE_BYTES: usize = 384 << 10;
/// Units a worker should have at least, so that all end at about the same time.
const UNITS_PER_WORKER: usize = 4;

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
    let mut scratch = cpu.matmul_scratch.lock().unwrap_or_else(PoisonError::into_inner);
    let Scratch { packed, expanded } = &mut *scratch;
    expanded.resize_with(cpu.n_threads(), Default::default);

    let has_bf16 = has_avx512_bf16();
    let methods: Vec<Method> = (product.weight.parts().iter())
        .map(|part| method(cpu.isa, has_bf16, part.format, n_tokens))
        .collect();
    let [int8, f32, bf16] = packed;
    let mut pack = |encoding, scratch| pack(cpu, &methods, &product, encoding, scratch);
    let packed = [
        pack(Encoding::Int8, int8)?,
        pack(Encoding::F32, f32)?,
        pack(Encoding::Bf16, bf16)?,
    ];

    let plan = Plan::new(cpu, &methods, packed, product);
    let schedule = Schedule::new(plan.n_units(), cpu.n_threads());
    cpu.pool.run(|worker| {
        let mut expanded = expanded[worker].lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(unit) = schedule.next(worker) {
            plan.compute(unit, &mut expanded);
        }
    });
    Ok(())
}
