//! The text a command works on: an argument, a file or stdin.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};

use crate::args::Cli;

/// Where the text comes from.
#[derive(Args, Debug)]
pub(crate) struct TextArgs {
    /// The text; `-`, or nothing, for stdin
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    pub(crate) text: Option<String>,

    /// Read the text from a file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

impl TextArgs {
    /// The text, exactly as it stands there. With nothing given and a terminal for stdin, ends
    /// the process with a usage error instead of waiting for a user who expects an answer.
    ///
    /// # Errors
    /// If the file or stdin cannot be read or is not UTF-8.
    pub(crate) fn read(&self) -> anyhow::Result<String> {
        match (&self.file, self.text.as_deref()) {
            (Some(path), _) => read_file(path),
            (None, Some("-")) => read_stdin(),
            (None, Some(text)) => Ok(text.to_owned()),
            (None, None) if io::stdin().is_terminal() => Cli::command()
                .error(
                    ErrorKind::MissingRequiredArgument,
                    "no text: give it as an argument, with -f FILE or through a pipe",
                )
                .exit(),
            (None, None) => read_stdin(),
        }
    }

    /// The text as a prompt: without the line end that editors and `echo` put after the last
    /// line, which a model would take for the beginning of another. An argument stays as it is.
    ///
    /// # Errors
    /// As [`TextArgs::read`].
    pub(crate) fn read_prompt(&self) -> anyhow::Result<String> {
        let mut text = self.read()?;
        let typed = self.text.as_deref().is_some_and(|text| text != "-");
        if !typed && text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }
}

/// The text of the file at `path`.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    decode(bytes, &path.display().to_string())
}

fn read_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .read_to_end(&mut bytes)
        .context("cannot read stdin")?;
    decode(bytes, "stdin")
}

fn decode(bytes: Vec<u8>, source: &str) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        anyhow!("{source} is not UTF-8 text: the bytes at offset {offset} are no character")
    })
}
