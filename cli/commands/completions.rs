//! `onward completions`: a shell's completion script.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Outcome;
use crate::args::Cli;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  source <(onward completions bash)
  onward completions zsh > ~/.zfunc/_onward
  onward completions fish > ~/.config/fish/completions/onward.fish";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    // Into memory first: the generator panics where a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "onward", &mut script);
    output::text(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
