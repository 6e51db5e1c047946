//! `moe_combine` on a GPU: one thread for each 16 bytes of the result.

use cudarc::driver::DeviceRepr;

use super::{MoeCombine, OP};
use crate::backend::RoutesArray;
use crate::cuda::Cuda;
use crate::cuda::abi::{MOE_COMBINE_THREADS, MoeCombineParams};
use crate::cuda::queue::Launch;
use crate::error::Result;
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for MoeCombineParams {}

pub(crate) fn run(cuda: &Cuda, op: MoeCombine<'_, Cuda>) -> Result<()> {
    let width = narrow(OP, op.width)?;
    let accesses = if width % 4 == 0 { width / 4 } else { width };
    let launch = Launch {
        module: "moe_combine",
        kernel: "moe_combine",
        grid: (
            narrow(OP, op.n_rows)?,
            accesses.div_ceil(MOE_COMBINE_THREADS),
            1,
        ),
        threads: MOE_COMBINE_THREADS,
        shared_bytes: 0,
        params: MoeCombineParams {
            x: op.x.0.pointer(),
            weights: op.routes.weights.pointer(),
            places: op.routes.places.pointer(),
            out: op.out.0.pointer(),
            top_k: narrow(OP, op.routes.shape().top_k)?,
            width,
            accumulate: op.accumulate.into(),
        },
    };
    // SAFETY: the arrays are as long as the shape says, the places that routing wrote are fewer
    // than the rows of `x`, `out` is borrowed alone, and the grid covers each row.
    unsafe { cuda.queue().launch(&cuda.device, &launch) }
}
