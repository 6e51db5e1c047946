//! The `onward` command: language models from the terminal.
//!
//! Results go to stdout; progress, statistics, logs and errors go to stderr. Exit codes: 0 done,
//! 1 failure, 2 a usage error, 130 interrupted.

mod args;
mod cache;
mod commands;
mod conversation;
mod device;
mod interrupt;
mod lines;
mod machine;
mod output;
mod progress;
mod prompt;
mod sampling;
mod serve;
mod stream;
mod text;
mod values;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use args::{Cli, Command};

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It did what was asked.
    Done,
    /// The user broke it off.
    Interrupted,
}

fn main() -> ExitCode {
    let cli = Cli::from_process();
    start_logging(&cli);
    match interrupt::install().and_then(|()| run(cli.command)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::EXIT_CODE),
        // Whoever read stdout has had enough, as in `onward … | head -1`: not a failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Generate(args) => commands::generate::run(&args),
        Command::Chat(args) => commands::chat::run(&args),
        Command::Batch(args) => commands::batch::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Next(args) => commands::next::run(&args),
        Command::Tokenize(args) => commands::tokenize::run(&args),
        Command::Perplexity(args) => commands::perplexity::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
    }
}

/// `ONWARD_LOG` (a filter such as `onward_engine=debug`) wins over `--verbose`. A server runs for
/// long: it logs its requests, and when.
fn start_logging(cli: &Cli) {
    let is_server = matches!(cli.command, Command::Serve(_));
    let level = match cli.verbose {
        0 if is_server => "warn,onward=info",
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("ONWARD_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(output::colour_wanted(io::stderr().is_terminal()));
    match is_server {
        true => log.init(),
        false => log.without_time().init(),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}
