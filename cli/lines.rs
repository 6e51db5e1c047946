//! Lines that a user types, edited on a terminal, or that come through a pipe.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use anyhow::Context;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::cache;

/// A source of lines.
pub(crate) enum Lines {
    /// A terminal, with editing and a history that outlives the process.
    Terminal {
        editor: Box<DefaultEditor>,
        history: Option<PathBuf>,
    },
    /// A pipe or a file.
    Pipe,
}

impl Lines {
    /// Lines from stdin, whatever it is.
    pub(crate) fn open() -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let mut editor = Box::new(DefaultEditor::new().context("cannot edit lines here")?);
        let history = cache::folder().map(|folder| folder.join("chat-history"));
        if let Some(path) = &history {
            // The first time there is none; a history that cannot be read is no reason to stop.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal { editor, history })
    }

    /// Whether someone sits there.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next message, `None` at the end of input. A line that ends in `\` goes on in the
    /// next; Ctrl-C takes back what has been typed.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut message = String::new();
        loop {
            let prompt = if message.is_empty() { "> " } else { "… " };
            let line = match self.read(prompt)? {
                Read::Line(line) => line,
                Read::TakenBack => {
                    message.clear();
                    continue;
                }
                Read::End if message.is_empty() => return Ok(None),
                Read::End => return Ok(Some(message)),
            };
            match line.strip_suffix('\\') {
                Some(start) => {
                    message.push_str(start);
                    message.push('\n');
                }
                None => {
                    message.push_str(&line);
                    self.remember(&message);
                    return Ok(Some(message));
                }
            }
        }
    }

    fn read(&mut self, prompt: &str) -> anyhow::Result<Read> {
        match self {
            Self::Terminal { editor, .. } => match editor.readline(prompt) {
                Ok(line) => Ok(Read::Line(line)),
                Err(ReadlineError::Interrupted) => Ok(Read::TakenBack),
                Err(ReadlineError::Eof) => Ok(Read::End),
                Err(error) => Err(error).context("cannot read from the terminal"),
            },
            Self::Pipe => {
                let mut line = String::new();
                if io::stdin()
                    .lock()
                    .read_line(&mut line)
                    .context("cannot read stdin")?
                    == 0
                {
                    return Ok(Read::End);
                }
                let end = line.trim_end_matches(['\n', '\r']).len();
                line.truncate(end);
                Ok(Read::Line(line))
            }
        }
    }

    fn remember(&mut self, message: &str) {
        let Self::Terminal { editor, history } = self else {
            return;
        };
        if message.trim().is_empty() || editor.add_history_entry(message).is_err() {
            return;
        }
        if let Some(path) = history {
            // Saved at each line, for a second Ctrl-C ends the process at once. Losing the
            // history is no reason to stop either.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.save_history(path);
        }
    }
}

enum Read {
    Line(String),
    TakenBack,
    End,
}
