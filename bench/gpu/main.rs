//! `onward-gpu`: what a GPU does with the kernels, in numbers. One JSON object a line on standard
//! output, each as soon as it is known; `scripts/gpu.py` runs this and makes a report of it.
//!
//! `--device emulated` runs the same code on the emulated device, where times mean nothing, and
//! `--quick` takes tiny shapes: together they show that all of it works.

mod bandwidth;
mod draw;
mod logits;
mod model;
mod network;
mod ops;
mod random;
mod record;
mod shapes;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use onward_kernels::cuda::{Cuda, probe};
use serde_json::json;

use model::Precision;
use shapes::Shape;

/// Measure kernels and whole models on a GPU.
#[derive(Parser)]
struct Args {
    /// What to run on.
    #[arg(long, value_enum, default_value = "cuda")]
    device: Device,
    /// Tiny shapes, and little of everything.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    /// GPU 0 of this machine.
    Cuda,
    /// The kernels on the host, behind a stand-in for the driver.
    Emulated,
}

#[derive(Subcommand)]
enum What {
    /// The GPU and its driver.
    Machine,
    /// Copying and reading memory, the ceilings.
    Bandwidth,
    /// Every operation at the shapes of a large model.
    Ops,
    /// Drawing tokens.
    Draw,
    /// Whole models with random weights: decoding, in a loop on the GPU, with CUDA graphs and without,
    /// and a prompt.
    Model {
        /// Its shape.
        #[arg(long, value_enum)]
        shape: Shape,
        /// How its matrices are stored.
        #[arg(long, value_enum)]
        precision: Precision,
        /// Where its file may lie meanwhile; the system's folder for such where not said.
        #[arg(long)]
        scratch: Option<PathBuf>,
    },
    /// Log-probabilities behind each token of a text, as 32-bit floats `[n, vocab]`.
    Logits {
        /// A Hugging Face directory or a GGUF file.
        #[arg(long)]
        model: PathBuf,
        /// A JSON list of token ids.
        #[arg(long)]
        ids: PathBuf,
        /// The file to write.
        #[arg(long)]
        output: PathBuf,
    },
}

/// What all measurements share.
struct Bench {
    quick: bool,
}

impl Bench {
    /// A backend of its own.
    fn open(&self) -> Result<Cuda> {
        Ok(Cuda::open(0)?)
    }

    /// `full`, or what is taken for it in a quick run.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.device == Device::Emulated {
        emulate()?;
    }
    let bench = Bench { quick: args.quick };
    match args.what {
        What::Machine => machine(&bench),
        What::Bandwidth => bandwidth::run(&bench),
        What::Ops => ops::run(&bench),
        What::Draw => draw::run(&bench),
        What::Model {
            shape,
            precision,
            scratch,
        } => network::run(&bench, shape, precision, scratch.as_deref()),
        What::Logits { model, ids, output } => logits::run(&bench, &model, &ids, &output),
    }
}

/// Puts the emulated device in the driver's place.
#[cfg(feature = "emulated")]
fn emulate() -> Result<()> {
    onward_emulator::Emulator::install(onward_emulator::Build::Optimised)?;
    Ok(())
}

/// This build is without the emulated device.
#[cfg(not(feature = "emulated"))]
fn emulate() -> Result<()> {
    anyhow::bail!("this program was built without the emulated device (feature emulated)")
}

fn machine(bench: &Bench) -> Result<()> {
    let (driver, mut cuda) = (probe().driver?, bench.open()?);
    cuda.try_hopper();
    let formats: Vec<_> = (cuda.hopper_formats().iter())
        .map(ToString::to_string)
        .collect();
    let gpu = cuda.device().gpu();
    let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
    record::say(&json!({
        "gpu": gpu.name,
        "compute_capability": version(gpu.compute_capability),
        "memory_bytes": gpu.memory,
        "multiprocessors": gpu.multiprocessors,
        "driver_cuda": version(driver.version),
        "hopper_formats": formats,
        "hopper_widths": cuda.hopper_widths(),
    }))
}
