//! `onward doctor`: what this build and this machine can do.

mod gpu;

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use onward_kernels::cpu::Isa;
use serde::Serialize;

use crate::args::Device;
use crate::device::default_threads;
use crate::output::{self, Style};
use crate::values::{DeviceParser, thread_count};
use crate::{Outcome, cache, machine};

const EXAMPLES: &str = "\
Examples:
  onward doctor
  onward doctor --json
  onward doctor --device cuda:1

Writing a token reads every weight once: the read bandwidth divided by a model's size is the
most tokens a second that the CPU can give.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Threads to measure with [default: the physical cores]
    #[arg(short, long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,

    /// The GPU to look at: cuda or cuda:N; or emulated [default: the first one, if any]
    #[arg(long, value_name = "DEVICE", value_parser = DeviceParser, hide_possible_values = true)]
    device: Option<Device>,

    /// Try the kernels that use a Hopper GPU's own instructions, and say which agree with the
    /// others
    #[arg(long)]
    try_hopper: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Diagnosis {
    version: &'static str,
    cuda_built_in: bool,
    cpu: CpuPart,
    memory: MemoryPart,
    gpu: gpu::GpuPart,
    cache: CachePart,
}

#[derive(Serialize)]
struct CpuPart {
    name: Option<String>,
    physical_cores: usize,
    logical_cores: usize,
    /// Threads that models run with unless told otherwise.
    default_threads: usize,
    features: Vec<&'static str>,
    /// The instructions that the kernels choose.
    instruction_set: &'static str,
}

#[derive(Serialize)]
struct MemoryPart {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    /// Bytes a second.
    read_bandwidth: Option<f64>,
    read_threads: usize,
}

#[derive(Serialize)]
struct CachePart {
    folder: Option<PathBuf>,
    models: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    path: PathBuf,
    bytes: u64,
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<Outcome> {
    let n_threads = args.threads.unwrap_or_else(default_threads);
    let diagnosis = Diagnosis {
        version: env!("CARGO_PKG_VERSION"),
        cuda_built_in: cfg!(feature = "cuda"),
        cpu: CpuPart {
            name: machine::processor(),
            physical_cores: num_cpus::get_physical(),
            logical_cores: num_cpus::get(),
            default_threads: default_threads(),
            features: machine::features(),
            instruction_set: Isa::detect().name(),
        },
        memory: memory_part(n_threads),
        gpu: gpu::part(args.device, args.try_hopper)?,
        cache: CachePart {
            folder: cache::folder(),
            models: cache::models()
                .into_iter()
                .map(|(path, bytes)| Model { path, bytes })
                .collect(),
        },
    };
    if args.json {
        output::json(&diagnosis)?;
    } else {
        output::text(&report(&diagnosis, Style::stdout()))?;
    }
    Ok(Outcome::Done)
}

fn memory_part(n_threads: usize) -> MemoryPart {
    let memory = machine::memory();
    let bandwidth = machine::read_bandwidth(n_threads);
    if let Err(error) = &bandwidth {
        output::note(Style::stderr().dim(format_args!("{error:#}")));
    }
    MemoryPart {
        total_bytes: memory.map(|(total, _)| total),
        available_bytes: memory.map(|(_, available)| available),
        read_bandwidth: bandwidth.ok(),
        read_threads: n_threads,
    }
}

// Writing to a String cannot fail, so the results are not looked at.
fn report(diagnosis: &Diagnosis, style: Style) -> String {
    let mut out = String::new();
    let title = format!("onward {}", diagnosis.version);
    let _ = writeln!(out, "{}", style.bold(title));
    for (heading, lines) in [
        ("CPU", cpu_lines(&diagnosis.cpu)),
        ("Memory", memory_lines(&diagnosis.memory)),
        ("GPU", gpu::lines(&diagnosis.gpu, diagnosis.cuda_built_in)),
        ("Cache", cache_lines(&diagnosis.cache)),
    ] {
        let _ = writeln!(out, "{}", style.bold(heading));
        for (name, value) in lines {
            let _ = writeln!(out, "  {name:<14}{value}");
        }
    }
    out
}

type Lines = Vec<(&'static str, String)>;

fn cpu_lines(cpu: &CpuPart) -> Lines {
    let unknown = || "unknown".to_owned();
    vec![
        ("processor", cpu.name.clone().unwrap_or_else(unknown)),
        (
            "cores",
            format!(
                "{} physical, {} logical; {} threads by default",
                cpu.physical_cores, cpu.logical_cores, cpu.default_threads
            ),
        ),
        ("features", cpu.features.join(" ")),
        ("kernels use", cpu.instruction_set.to_owned()),
    ]
}

fn memory_lines(memory: &MemoryPart) -> Lines {
    let bytes = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), output::bytes);
    let speed = match memory.read_bandwidth {
        Some(speed) => format!(
            "{:.1} GB/s, {} threads reading",
            speed / 1e9,
            memory.read_threads
        ),
        None => "not measured".to_owned(),
    };
    vec![
        ("total", bytes(memory.total_bytes)),
        ("available", bytes(memory.available_bytes)),
        ("read speed", speed),
    ]
}

fn cache_lines(cache: &CachePart) -> Lines {
    let folder = match &cache.folder {
        Some(folder) => folder.display().to_string(),
        None => "unknown, for HOME is not set".to_owned(),
    };
    let mut lines = vec![("folder", folder)];
    if cache.models.is_empty() {
        lines.push(("models", "none yet; `make models` gets some".to_owned()));
    }
    for model in &cache.models {
        let name = model.path.file_name().unwrap_or_default().to_string_lossy();
        lines.push(("model", format!("{name}, {}", output::bytes(model.bytes))));
    }
    lines
}
