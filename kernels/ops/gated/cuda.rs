//! `gated` on a GPU: one thread for each 16 bytes of the result.

use cudarc::driver::DeviceRepr;

use super::{Activation, Gated, OP};
use crate::cuda::Cuda;
use crate::cuda::abi::{GATED_GELU_TANH, GATED_SILU, GATED_THREADS, GatedParams};
use crate::cuda::queue::Launch;
use crate::error::Result;
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for GatedParams {}

pub(crate) fn run(cuda: &Cuda, op: Gated<'_, Cuda>) -> Result<()> {
    let width = narrow(OP, op.width)?;
    let accesses = if width % 4 == 0 { width / 4 } else { width };
    let launch = Launch {
        module: "gated",
        kernel: "gated",
        grid: (narrow(OP, op.n_rows)?, accesses.div_ceil(GATED_THREADS), 1),
        threads: GATED_THREADS,
        shared_bytes: 0,
        params: GatedParams {
            gate_up: op.gate_up.0.pointer(),
            out: op.out.0.pointer(),
            width,
            activation: code(op.activation),
        },
    };
    // SAFETY: the arrays are as long as the shape says, `out` is borrowed alone, and the grid
    // covers each row.
    unsafe { cuda.queue().launch(&cuda.device, &launch) }
}

/// What kernels call an activation.
pub(crate) fn code(activation: Activation) -> u32 {
    match activation {
        Activation::Silu => GATED_SILU,
        Activation::GeluTanh => GATED_GELU_TANH,
    }
}
