//! The command line: subcommands, and the groups of flags that several of them share.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::cache;
use crate::commands::{
    batch::BatchArgs, chat::ChatArgs, completions::CompletionsArgs, doctor::DoctorArgs,
    generate::GenerateArgs, inspect::InspectArgs, next::NextArgs, perplexity::PerplexityArgs,
    serve::ServeArgs, tokenize::TokenizeArgs,
};
use crate::values::{
    DeviceParser, above_zero, bias, chunk_size, context_size, finite, fraction, non_negative, seed,
    thread_count, whole,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Cyan.on_default().bold())
    .usage(AnsiColor::Cyan.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::BrightBlack.on_default());

const EXAMPLES: &str = "\
Examples:
  onward generate \"The sea was calm that\"          stream a completion
  git diff | onward generate --chat --system \"Write a commit message.\" -m qwen.gguf
  onward chat -m qwen.gguf                         talk with an instruction-tuned model
  onward serve -m qwen.gguf                        serve it to OpenAI's clients at :8080/v1
  onward next \"The capital of France is\" --top 5   what may come next, and how likely
  onward inspect model.gguf -c 32768               what it is and the memory it needs
  source <(onward completions bash)                complete flags with Tab

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failure, 2 usage error,
130 interrupted. NO_COLOR turns colours off; ONWARD_LOG sets the log filter (such as debug).

Without -m the model is gemma-3-270m-q4_k_m.gguf under models/ in the cache folder:
$ONWARD_CACHE, else $XDG_CACHE_HOME/onward, else ~/.cache/onward.";

/// Run autoregressive language models from the terminal.
///
/// An autoregressive model writes a text one token at a time, each drawn from a distribution
/// that the tokens before it determine. onward reads models in GGUF or safetensors form and
/// runs them on this machine; nothing leaves it.
#[derive(Debug, Parser)]
#[command(name = "onward", version, styles = STYLES, after_help = EXAMPLES)]
#[command(max_term_width = 100, infer_subcommands = false)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log more on stderr; twice and thrice still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Cli {
    /// Parses the process's arguments; a usage error ends it.
    ///
    /// A number below zero is given to its flag, so that the message says which numbers are
    /// right instead of taking `-1` for an unknown flag.
    pub(crate) fn from_process() -> Self {
        let command = Self::command().mut_subcommands(|subcommand| {
            subcommand.mut_args(|arg| {
                let is_flag = !arg.is_positional() && arg.get_action().takes_values();
                arg.allow_negative_numbers(is_flag)
            })
        });
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a text, streaming it as it is made
    Generate(GenerateArgs),
    /// Talk with a model in the terminal
    Chat(ChatArgs),
    /// Serve the requests of a file, as many at once as there is room for
    Batch(Box<BatchArgs>),
    /// Serve a model over HTTP, through the API that existing clients speak
    Serve(Box<ServeArgs>),
    /// Show what may come next, and what sampling would cut away
    Next(NextArgs),
    /// Turn text into token ids, or ids into text
    Tokenize(TokenizeArgs),
    /// Measure how well a model predicts a text
    Perplexity(PerplexityArgs),
    /// Describe a model file and the memory it needs, without loading it
    Inspect(InspectArgs),
    /// Report what this build and this machine can do
    Doctor(DoctorArgs),
    /// Print a shell's completion script
    Completions(CompletionsArgs),
}

/// Which model.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelFileArgs {
    /// A GGUF file, or a directory with config.json and model.safetensors
    #[arg(short, long, value_name = "PATH")]
    model: Option<PathBuf>,
}

impl ModelFileArgs {
    /// The model's path, which exists.
    ///
    /// # Errors
    /// If there is nothing at the path given, or the default model has not been downloaded.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        cache::model_path(self.model.as_deref())
    }
}

/// Which model, and how it is run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    pub(crate) file: ModelFileArgs,

    /// Tokens of context to make room for, prompt and answer together [default: what the model was
    /// trained for]
    #[arg(short, long, value_name = "N", value_parser = context_size)]
    pub(crate) ctx_size: Option<usize>,

    /// Threads to compute with [default: the physical cores]
    #[arg(short, long, value_name = "N", value_parser = thread_count)]
    pub(crate) threads: Option<usize>,

    /// What computes: cpu; cuda or cuda:N, a GPU; emulated, the GPU's kernels on the CPU, slowly;
    /// reference, plain f32 loops to judge others by
    #[arg(long, value_name = "DEVICE", value_parser = DeviceParser, default_value = "cpu", hide_possible_values = true)]
    pub(crate) device: Device,

    /// How a GPU keeps keys and values: bf16, or int8 in half the memory [default: bf16]
    #[arg(long, value_enum, value_name = "TYPE", hide_possible_values = true)]
    pub(crate) kv_type: Option<KvPrecision>,

    /// Launch a GPU's kernels one by one instead of recorded as CUDA graphs, which the GPU repeats by
    /// itself; the result is the same
    #[arg(long)]
    pub(crate) no_graphs: bool,

    /// Most prompt tokens to take in one pass; changes speed and memory, never the result
    #[arg(short = 'b', long = "chunk", value_name = "N", value_parser = chunk_size, default_value_t = 512)]
    pub(crate) chunk: usize,
}

/// A place that can run a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// Threads and SIMD, on the weights as they are packed in the file.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
    /// The kernels of a GPU, run on the CPU: for tests.
    Emulated,
    /// Plain f32 loops: slow, and the truth that the others are judged by.
    Reference,
}

/// How a GPU keeps keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvPrecision {
    /// In 16 bits.
    Bf16,
    /// In 8 bits, with a scale for each head of a token.
    Int8,
}

/// The temperature and the cuts. What is left out comes from the model, where it recommends
/// values, else from the engine's defaults.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct CutArgs {
    /// Sharpen (below 1) or flatten (above 1) the distribution; 0 takes the likeliest token
    /// [default: the model's, else 0.8]
    #[arg(long, visible_alias = "temperature", value_name = "X", value_parser = non_negative)]
    pub(crate) temp: Option<f32>,

    /// Keep the K likeliest tokens; 0 keeps all [default: the model's, else 40]
    #[arg(long, value_name = "K", value_parser = whole)]
    pub(crate) top_k: Option<usize>,

    /// Keep the fewest tokens whose probabilities reach P together [default: the model's, else 0.95]
    #[arg(long, value_name = "P", value_parser = fraction)]
    pub(crate) top_p: Option<f32>,

    /// Keep tokens at least P times as likely as the likeliest [default: the model's, else 0.05]
    #[arg(long, value_name = "P", value_parser = fraction)]
    pub(crate) min_p: Option<f32>,
}

/// How each token is drawn.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    #[command(flatten)]
    pub(crate) cut: CutArgs,

    /// Seed of the draws; the same seed gives the same text [default: a random one, reported]
    #[arg(short, long, value_name = "N", value_parser = seed)]
    pub(crate) seed: Option<u64>,

    /// Make recent tokens less likely, dividing their scores [default: the model's, else 1: off]
    #[arg(long, value_name = "X", value_parser = above_zero)]
    pub(crate) repeat_penalty: Option<f32>,

    /// Lower the score of every recent token [default: 0]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub(crate) presence_penalty: Option<f32>,

    /// Lower a recent token's score for each time it has appeared [default: 0]
    #[arg(long, value_name = "X", value_parser = finite)]
    pub(crate) frequency_penalty: Option<f32>,

    /// How many tokens back the penalties look [default: 64]
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(crate) repeat_last_n: Option<usize>,

    /// Add BIAS to the score of token ID; -inf forbids it (repeatable)
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,
}

/// The chat template, where a command uses one.
#[derive(Args, Debug)]
#[command(next_help_heading = "Conversation")]
pub(crate) struct TemplateArgs {
    /// Instructions to the model, before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,

    /// A Jinja chat template to use instead of the model's own
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use onward_kernels::ops::sample::SamplingParams;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_states_the_engines_defaults() {
        let help = Cli::command()
            .find_subcommand_mut("generate")
            .map(|command| command.render_long_help().to_string())
            .unwrap_or_default();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let d = SamplingParams::default();
        for default in [
            format!(
                "the likeliest token [default: the model's, else {}]",
                d.temperature
            ),
            format!("0 keeps all [default: the model's, else {}]", d.top_k),
            format!("reach P together [default: the model's, else {}]", d.top_p),
            format!("as the likeliest [default: the model's, else {}]", d.min_p),
            format!(
                "their scores [default: the model's, else {}: off]",
                d.repeat_penalty
            ),
            format!("every recent token [default: {}]", d.presence_penalty),
            format!("it has appeared [default: {}]", d.frequency_penalty),
            format!("the penalties look [default: {}]", d.repeat_last_n),
        ] {
            assert!(help.contains(&default), "no {default:?} in {help}");
        }
    }
}
