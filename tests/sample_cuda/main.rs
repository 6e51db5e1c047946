//! The sampling kernels on the emulated device against the CPU's sampler and the sorting
//! reference: the same token, the same bits of its log-probability, the same list, the same
//! error; in one call, and step by step with everything on the device.

#[path = "../../kernels/ops/sample/tests/inputs.rs"]
mod inputs;
mod rows;
mod steps;

use onward_emulator::{Build, Emulator, SCHEDULES};
use onward_kernels::Result;
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::sample::philox::noise;
use onward_kernels::ops::sample::{Sampled, SamplingParams};

/// The device, in one of its schedules.
fn device(schedule: usize) -> (Emulator, Cuda) {
    let emulator = Emulator::install(Build::Optimised).unwrap();
    let (order, copies) = SCHEDULES[schedule % SCHEDULES.len()];
    emulator.set_schedule(order, copies);
    (emulator, Cuda::open(0).unwrap())
}

/// A token, the bits of its log-probability and those of the list; or the error's sentence.
type Bits = std::result::Result<(u32, u32, Vec<(u32, u32)>), String>;

fn bits(result: Result<Sampled>) -> Bits {
    let sampled = result.map_err(|error| error.to_string())?;
    let top = sampled.top.iter().map(|&(token, l)| (token, l.to_bits()));
    Ok((sampled.token, sampled.logprob.to_bits(), top.collect()))
}
