//! The command line: subcommands, and the groups of flags that several of them share.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cache;
use crate::commands::{
    chat::ChatArgs, completions::CompletionsArgs, doctor::DoctorArgs, generate::GenerateArgs,
    inspect::InspectArgs, next::NextArgs, perplexity::PerplexityArgs, tokenize::TokenizeArgs,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Continue a text, streaming it as it is made
    Generate(GenerateArgs),
    /// Talk with a model in the terminal
    Chat(ChatArgs),
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
#[derive(Args, Debug)]
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
#[derive(Args, Debug)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    pub(crate) file: ModelFileArgs,

    /// Tokens of context to make room for, prompt and answer together [default: what the model was
    /// trained for]
    #[arg(short, long, value_name = "N", value_parser = positive)]
    pub(crate) ctx_size: Option<usize>,

    /// Threads to compute with [default: the physical cores]
    #[arg(short, long, value_name = "N", value_parser = thread_count)]
    pub(crate) threads: Option<usize>,

    /// What computes: cpu is fast, reference is plain f32 loops to judge others by
    #[arg(long, value_enum, value_name = "DEVICE", default_value_t = Device::Cpu, hide_possible_values = true)]
    pub(crate) device: Device,

    /// Most prompt tokens to take in one pass; changes speed and memory, never the result
    #[arg(short = 'b', long = "chunk", value_name = "N", value_parser = positive, default_value_t = 512)]
    pub(crate) chunk: usize,
}

/// A place that can run a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// Threads and SIMD, on the weights as they are packed in the file.
    Cpu,
    /// Plain f32 loops: slow, and the truth that the others are judged by.
    Reference,
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
    #[arg(long, value_name = "K")]
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
    #[arg(short, long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Make recent tokens less likely, dividing their scores [default: the model's, else 1: off]
    #[arg(long, value_name = "X", value_parser = above_zero)]
    pub(crate) repeat_penalty: Option<f32>,

    /// Lower the score of every recent token [default: 0]
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f32>,

    /// Lower a recent token's score for each time it has appeared [default: 0]
    #[arg(long, value_name = "X", value_parser = finite, allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f32>,

    /// How many tokens back the penalties look [default: 64]
    #[arg(long, value_name = "N")]
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

/// The most tokens to generate; `None` goes on until the model stops or the context ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenLimit(pub(crate) Option<usize>);

/// Parses `-n`.
pub(crate) fn token_limit(text: &str) -> Result<TokenLimit, String> {
    if text == "-1" {
        return Ok(TokenLimit(None));
    }
    match text.parse() {
        Ok(n) => Ok(TokenLimit(Some(n))),
        Err(_) => Err("a number of tokens from 0 up is wanted, or -1 for no limit".into()),
    }
}

/// Parses a number of things that must not be none.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 && n <= u32::MAX as usize => Ok(n),
        _ => Err(format!("a number from 1 to {} is wanted", u32::MAX)),
    }
}

/// Parses `--threads`.
pub(crate) fn thread_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=1024).contains(&n) => Ok(n),
        _ => Err("a number from 1 to 1024 is wanted".into()),
    }
}

fn finite(text: &str) -> Result<f32, String> {
    number(text, |x| x.is_finite(), "a finite number is wanted")
}

fn non_negative(text: &str) -> Result<f32, String> {
    number(
        text,
        |x| x.is_finite() && x >= 0.0,
        "a number from 0 up is wanted",
    )
}

fn above_zero(text: &str) -> Result<f32, String> {
    number(
        text,
        |x| x.is_finite() && x > 0.0,
        "a number above 0 is wanted",
    )
}

fn fraction(text: &str) -> Result<f32, String> {
    number(
        text,
        |x| (0.0..=1.0).contains(&x),
        "a number from 0 to 1 is wanted",
    )
}

fn number(text: &str, fits: impl Fn(f32) -> bool, wanted: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(x) if fits(x) => Ok(x),
        _ => Err(wanted.into()),
    }
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let parsed = text.split_once('=').and_then(|(id, bias)| {
        let bias: f32 = bias.parse().ok()?;
        let usable = bias.is_finite() || bias == f32::NEG_INFINITY;
        Some((id.parse().ok()?, usable.then_some(bias)?))
    });
    parsed.ok_or_else(|| {
        "a token id and what to add to its score are wanted, such as 42=-1.5 or 42=-inf".into()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
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

    #[test]
    fn values_outside_their_range_are_refused() {
        assert_eq!(token_limit("-1"), Ok(TokenLimit(None)));
        assert_eq!(token_limit("7"), Ok(TokenLimit(Some(7))));
        assert!(token_limit("-2").is_err() && token_limit("").is_err());
        assert!(positive("0").is_err() && positive("4294967296").is_err());
        assert!(thread_count("1025").is_err());
        assert!(fraction("1.01").is_err() && fraction("NaN").is_err());
        assert!(non_negative("inf").is_err() && above_zero("0").is_err());
        assert_eq!(bias("42=-inf"), Ok((42, f32::NEG_INFINITY)));
        assert!(bias("42=NaN").is_err() && bias("42").is_err() && bias("-1=2").is_err());
    }
}
