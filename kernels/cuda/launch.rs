//! Launching kernels: arguments checked, a parameter struct filled, one call.

use cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg,
};

use super::abi::{RMS_NORM_MAX_THREADS, RmsNormParams};
use super::device::Device;
use super::driver::call;
use super::error::CudaError;
use crate::error::{Error, Result};

/// The kernels, loaded on a device.
#[derive(Debug)]
pub struct Kernels {
    rms_norm: CudaFunction,
}

/// Arguments of [`Kernels::rms_norm`]; what they mean is told in [`crate::ops::rms_norm`].
#[derive(Debug)]
pub struct RmsNormRows<'a> {
    /// `[n_rows, width]`.
    pub x: &'a CudaSlice<f32>,
    /// `[width]`.
    pub weight: &'a CudaSlice<f32>,
    /// Rows.
    pub n_rows: usize,
    /// Row length.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Adds to `out` instead of overwriting it.
    pub accumulate: bool,
    /// `[n_rows, width]`.
    pub out: &'a mut CudaSlice<f32>,
}

impl Kernels {
    /// Loads every kernel.
    ///
    /// # Errors
    ///
    /// A kernel that has no image for this GPU, or that its driver does not take.
    pub fn load(device: &Device) -> std::result::Result<Self, CudaError> {
        Ok(Self {
            rms_norm: device.kernel("rms_norm")?,
        })
    }

    /// Normalises rows; returns once the work is on the stream.
    ///
    /// # Errors
    ///
    /// Arrays shorter than the shape says, a shape past the grid's limits, or what the driver
    /// says.
    pub fn rms_norm(&self, stream: &CudaStream, args: RmsNormRows<'_>) -> Result<()> {
        let lens = [args.x.len(), args.weight.len(), args.out.len()];
        let (n_blocks, width) = check_rms_norm(lens, args.n_rows, args.width)?;
        if n_blocks == 0 || width == 0 {
            return Ok(());
        }
        let (x, _x) = args.x.device_ptr(stream);
        let (weight, _weight) = args.weight.device_ptr(stream);
        let (out, _out) = args.out.device_ptr_mut(stream);
        let params = RmsNormParams {
            x: x as *const f32,
            weight: weight as *const f32,
            out: out as *mut f32,
            width,
            epsilon: args.epsilon,
            accumulate: args.accumulate.into(),
        };
        let config = LaunchConfig {
            grid_dim: (n_blocks, 1, 1),
            block_dim: (rms_norm_threads(width), 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arrays are as long as the shape says, `out` overlaps neither input because
        // it is borrowed alone, and the block is a multiple of 32 threads within its bound.
        unsafe {
            stream
                .launch_builder(&self.rms_norm)
                .arg(&params)
                .launch(config)
        }
        .map_err(|error| Error::Device {
            device: "cuda".to_owned(),
            detail: call("launch rms_norm", error).to_string(),
        })?;
        Ok(())
    }
}

/// Blocks of the grid and row length, where the arrays `[x, weight, out]` are long enough.
fn check_rms_norm(lens: [usize; 3], n_rows: usize, width: usize) -> Result<(u32, u32)> {
    let shape = |detail: String| Error::Shape {
        op: "rms_norm",
        detail,
    };
    let n_values = n_rows
        .checked_mul(width)
        .ok_or_else(|| shape(format!("{n_rows} rows of {width} values are too many")))?;
    for (name, len, needed) in [
        ("x", lens[0], n_values),
        ("weight", lens[1], width),
        ("out", lens[2], n_values),
    ] {
        if len < needed {
            return Err(shape(format!(
                "{name} holds {len} values instead of {needed}"
            )));
        }
    }
    // The grid's x counts to 2^31 - 1, and the kernel counts a row's values in 32 bits.
    let n_blocks =
        i32::try_from(n_rows).map_err(|_| shape(format!("{n_rows} rows are too many")))?;
    let width = i32::try_from(width).map_err(|_| shape(format!("a row of {width} is too long")))?;
    Ok((n_blocks.unsigned_abs(), width.unsigned_abs()))
}

/// A thread for each four values, in whole warps. It depends on the width alone, and so do the
/// order of the sum and its bits.
fn rms_norm_threads(width: u32) -> u32 {
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
        for (width, threads) in [
            (1, 32),
            (128, 32),
            (129, 64),
            (640, 160),
            (2048, 512),
            (8192, 512),
        ] {
            assert_eq!(rms_norm_threads(width), threads, "width {width}");
        }
    }

    #[test]
    fn arrays_that_are_too_short_are_named() {
        assert!(check_rms_norm([6, 3, 6], 2, 3).is_ok());
        for (lens, name) in [([5, 3, 6], "x"), ([6, 2, 6], "weight"), ([6, 3, 5], "out")] {
            let text = check_rms_norm(lens, 2, 3)
                .expect_err("too short")
                .to_string();
            assert!(
                text.starts_with(&format!("rms_norm: {name} holds")),
                "{text}"
            );
        }
        assert!(check_rms_norm([6, 3, 6], usize::MAX, 3).is_err());
    }
}
