//! `rms_norm` on a GPU: one block a row.

use cudarc::driver::DeviceRepr;

use super::{OP, RmsNorm};
use crate::cuda::Cuda;
use crate::cuda::abi::{RMS_NORM_MAX_THREADS, RmsNormParams};
use crate::cuda::queue::Launch;
use crate::error::Result;
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for RmsNormParams {}

pub(crate) fn run(cuda: &Cuda, op: RmsNorm<'_, Cuda>) -> Result<()> {
    let params = RmsNormParams {
        x: op.x.0.pointer(),
        weight: op.weight.0.pointer(),
        out: op.out.0.pointer(),
        width: narrow(OP, op.width)?,
        epsilon: op.epsilon,
        accumulate: op.accumulate.into(),
    };
    let launch = launch(narrow(OP, op.n_rows)?, params);
    // SAFETY: the arrays are as long as the shape says, and `out` is borrowed alone.
    unsafe { cuda.queue().launch(&cuda.device, &launch) }
}

/// The launch over `n_rows` rows: a multiple of 32 threads within the block's bound.
pub(crate) fn launch(n_rows: u32, params: RmsNormParams) -> Launch<RmsNormParams> {
    Launch {
        module: "rms_norm",
        kernel: "rms_norm",
        grid: (n_rows, 1, 1),
        threads: threads(params.width),
        shared_bytes: 0,
        params,
    }
}

/// A thread for each four values, in whole warps. It depends on the width alone, and so do the
/// order of the sum and its bits.
fn threads(width: u32) -> u32 {
    width
        .div_ceil(4)
        .next_multiple_of(32)
        .clamp(32, RMS_NORM_MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_whole_warps_within_the_bound() {
        for (width, expected) in [
            (1, 32),
            (128, 32),
            (129, 64),
            (640, 160),
            (2048, 512),
            (8192, 512),
        ] {
            assert_eq!(threads(width), expected, "width {width}");
        }
    }
}
