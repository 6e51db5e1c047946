//! The sampling kernels on the emulated device against the CPU's sampler and the sorting
//! reference: the same token, the same bits of its log-probability, the same list, the same
//! error; in one call, and step by step with everything on the device.

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

/// A uniform number in 0..1 for each `(stream, i)`.
fn uniform(stream: u64, i: u64) -> f32 {
    (noise(stream, i) >> 40) as f32 / (1 << 24) as f32
}

/// A row of roughly normal logits in steps of `1 / levels`, a share of them −inf, one never.
fn row(stream: u64, vocab: usize, spread: f32, levels: f32, forbidden: f32) -> Vec<f32> {
    let normal = |i: u64| (0..4).map(|k| uniform(stream, 4 * i + k)).sum::<f32>() - 2.0;
    let logit = |i: u64| match uniform(!stream, i) < forbidden {
        true => f32::NEG_INFINITY,
        false => (normal(i) * spread * levels).round() / levels,
    };
    let mut row: Vec<f32> = (0..vocab as u64).map(logit).collect();
    row[(stream % vocab as u64) as usize] = 0.25;
    row
}

/// Nothing but the temperature.
fn plain(temperature: f32) -> SamplingParams {
    SamplingParams {
        temperature,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        ..SamplingParams::default()
    }
}

/// A token, the bits of its log-probability and those of the list; or the error's sentence.
type Bits = std::result::Result<(u32, u32, Vec<(u32, u32)>), String>;

fn bits(result: Result<Sampled>) -> Bits {
    let sampled = result.map_err(|error| error.to_string())?;
    let top = sampled.top.iter().map(|&(token, l)| (token, l.to_bits()));
    Ok((sampled.token, sampled.logprob.to_bits(), top.collect()))
}
