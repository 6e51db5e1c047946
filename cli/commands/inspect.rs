//! `onward inspect`: what a model file holds and the memory it needs, before loading it.

mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use onward_engine::formats::ModelFile;
use onward_engine::{EngineOptions, ModelConfig, memory_plan};
use onward_kernels::memory::{MemoryPlan, ModelShape};
use onward_kernels::ops::attention::Mask;
use serde::Serialize;

use crate::Outcome;
use crate::args::{Device, KvPrecision};
use crate::cache::model_path;
use crate::output::{self, Style};
use crate::values::{DeviceParser, chunk_size, context_size, sequence_count};

const EXAMPLES: &str = "\
Examples:
  onward inspect model.gguf
  onward inspect model.gguf -c 8192 --batch 16
  onward inspect model.gguf --device cuda
  onward inspect model.gguf --json";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// A GGUF file, or a directory with config.json and model.safetensors
    #[arg(value_name = "MODEL", conflicts_with = "model_flag")]
    model: Option<PathBuf>,

    /// The same as MODEL
    #[arg(short = 'm', long = "model", value_name = "PATH", id = "model_flag")]
    model_flag: Option<PathBuf>,

    /// Tokens of context to reckon with [default: what the model was trained for]
    #[arg(short, long, value_name = "N", value_parser = context_size)]
    ctx_size: Option<usize>,

    /// The device to reckon for, which need not be there: cpu, cuda or reference
    #[arg(long, value_name = "DEVICE", value_parser = DeviceParser, default_value = "cpu", hide_possible_values = true)]
    device: Device,

    /// How a GPU keeps keys and values: bf16, or int8 in half the memory [default: bf16]
    #[arg(long, value_enum, value_name = "TYPE", hide_possible_values = true)]
    kv_type: Option<KvPrecision>,

    /// Sequences held at once
    #[arg(long, value_name = "N", value_parser = sequence_count, default_value_t = 1)]
    batch: usize,

    /// Most prompt tokens to take in one pass
    #[arg(short = 'b', long, value_name = "N", value_parser = chunk_size, default_value_t = 512)]
    chunk: usize,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Inspection {
    path: PathBuf,
    family: String,
    name: Option<String>,
    parameters: u64,
    shape: Shape,
    /// Weights by what they are for.
    kinds: BTreeMap<&'static str, Group>,
    /// Weights by how they are encoded.
    formats: BTreeMap<&'static str, Group>,
    memory: Memory,
}

#[derive(Serialize)]
struct Shape {
    n_layers: usize,
    width: usize,
    vocab_size: usize,
    n_ctx_train: usize,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    feed_forward_width: usize,
    /// Layers whose attention sees a window only, and how far it reaches.
    n_window_layers: usize,
    window: Option<usize>,
    tied_embeddings: bool,
}

#[derive(Default, Serialize)]
struct Group {
    tensors: usize,
    parameters: u64,
    bytes: u64,
}

impl Group {
    fn add(&mut self, parameters: u64, bytes: u64) {
        self.tensors += 1;
        self.parameters += parameters;
        self.bytes += bytes;
    }
}

#[derive(Serialize)]
struct Memory {
    device: &'static str,
    context: usize,
    sequences: usize,
    /// Bytes by purpose.
    weights: usize,
    kv_cache: usize,
    decoder: usize,
    activations: usize,
    scratch: usize,
    /// Allowances, for a GPU.
    graphs: usize,
    driver: usize,
    total: usize,
}

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<Outcome> {
    let named = args.model.as_deref().or(args.model_flag.as_deref());
    let path = model_path(named)?;
    let options = EngineOptions {
        n_ctx: args.ctx_size,
        n_sequences: args.batch,
        chunk: args.chunk,
        ..EngineOptions::default()
    };
    let inspection = inspect(&path, &options, args)?;
    if args.json {
        output::json(&inspection)?;
    } else {
        output::text(&report::text(&inspection, Style::stdout()))?;
    }
    Ok(Outcome::Done)
}

fn inspect(path: &Path, options: &EngineOptions, args: &InspectArgs) -> anyhow::Result<Inspection> {
    let file = ModelFile::open(path)?;
    let config = ModelConfig::from_file(&file)?;
    let (mut kinds, mut formats) = (BTreeMap::new(), BTreeMap::new());
    let mut all = Group::default();
    let tensors = file.tensors();
    for tensor in tensors.names().filter_map(|name| tensors.tensor(name)) {
        let parameters = tensor.shape.iter().map(|&n| n as u64).product();
        let bytes = tensor.data.len() as u64;
        let kind: &mut Group = kinds.entry(kind(tensor.name)).or_default();
        kind.add(parameters, bytes);
        let format: &mut Group = formats.entry(tensor.format.name()).or_default();
        format.add(parameters, bytes);
        all.add(parameters, bytes);
    }
    let plan = device_planner(args.device, args.kv_type)?;
    let memory = memory_plan(&file, options, plan)?;
    Ok(Inspection {
        path: path.to_owned(),
        parameters: all.parameters,
        shape: shape(&config),
        kinds,
        formats,
        memory: Memory {
            device: match args.device {
                Device::Cpu => "cpu",
                Device::Cuda(_) | Device::Emulated => "cuda",
                Device::Reference => "reference",
            },
            context: options.context(&config),
            sequences: options.n_sequences,
            weights: memory.weights,
            kv_cache: memory.kv_cache,
            decoder: memory.decoder,
            activations: memory.activations,
            scratch: memory.scratch,
            graphs: memory.graphs,
            driver: memory.context,
            total: memory.total(),
        },
        family: config.family,
        name: config.name,
    })
}

/// Says how much memory a model takes on a device.
type Planner = dyn FnOnce(&ModelShape<'_>) -> MemoryPlan;

fn device_planner(device: Device, kv_type: Option<KvPrecision>) -> anyhow::Result<Box<Planner>> {
    if kv_type.is_some() && !matches!(device, Device::Cuda(_) | Device::Emulated) {
        bail!("--kv-type is for a GPU: --device cuda");
    }
    match device {
        Device::Cpu => Ok(Box::new(onward_kernels::cpu::plan)),
        Device::Reference => Ok(Box::new(onward_kernels::reference::plan)),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) | Device::Emulated => {
            let kv_type = crate::device::kv_type(kv_type);
            Ok(Box::new(move |model| {
                onward_kernels::cuda::plan(kv_type, model)
            }))
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) | Device::Emulated => Err(onward_kernels::cuda::CudaError::NotBuilt.into()),
    }
}

fn shape(config: &ModelConfig) -> Shape {
    let windows: Vec<_> = config
        .layers
        .iter()
        .filter_map(|layer| match layer.attention.mask {
            Mask::Window(n) => Some(n),
            Mask::Causal | Mask::BlockCausal(_) => None,
        })
        .collect();
    let first = config.layers.first();
    let attention = first.map(|layer| &layer.attention);
    Shape {
        n_layers: config.layers.len(),
        width: config.width,
        vocab_size: config.vocab_size,
        n_ctx_train: config.n_ctx_train,
        n_heads: attention.map_or(0, |a| a.n_heads),
        n_kv_heads: attention.map_or(0, |a| a.n_kv_heads),
        head_dim: attention.map_or(0, |a| a.head_dim),
        feed_forward_width: first.map_or(0, |layer| layer.feed_forward.width()),
        n_window_layers: windows.len(),
        window: windows.first().copied(),
        tied_embeddings: config.head.tied,
    }
}

/// What a tensor is for, by its name in either kind of file.
fn kind(name: &str) -> &'static str {
    let has = |part: &str| name.contains(part);
    if has("norm") {
        "norms"
    } else if has("embd") || has("embed") {
        "embedding"
    } else if has("ffn") || has("mlp") {
        "feed-forward"
    } else if has("attn") {
        "attention"
    } else if name.starts_with("output") || has("lm_head") {
        "output head"
    } else {
        "other"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_sorted_by_their_names() {
        let cases = [
            ("token_embd.weight", "embedding"),
            ("model.embed_tokens.weight", "embedding"),
            ("blk.0.attn_q.bias", "attention"),
            ("blk.0.attn_q_norm.weight", "norms"),
            ("model.layers.0.self_attn.q_proj.weight", "attention"),
            ("blk.0.ffn_down.weight", "feed-forward"),
            ("model.layers.0.mlp.up_proj.weight", "feed-forward"),
            ("output.weight", "output head"),
            ("lm_head.weight", "output head"),
            ("output_norm.weight", "norms"),
            ("rope_freqs.weight", "other"),
        ];
        for (name, expected) in cases {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
