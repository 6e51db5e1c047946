//! Serving one request on the terminal: progress, tokens as they come, Ctrl-C, figures.

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;

use onward_engine::{Completion, Engine, Event, FinishReason, Request, Token};
use onward_kernels::ops::sample::SamplingParams;
use onward_tokenizer::Tokenizer;

use crate::interrupt::Scope;
use crate::output::{self, Style, counted};
use crate::progress::{Progress, Unit};

/// Runs `request`, handing each token to `on_token` as it is drawn. A signal ends it after the
/// current step with what there is.
///
/// # Errors
/// What the engine refuses; what `on_token` fails with, which ends the request too.
pub(crate) fn serve(
    engine: &mut Engine,
    request: &Request,
    scope: &Scope,
    on_token: &mut dyn FnMut(&Token) -> io::Result<()>,
) -> anyhow::Result<Completion> {
    let mut bar = Some(Progress::new("Reading the prompt", Unit::Tokens));
    let mut failure = None;
    let completion = engine.generate(request, &mut |event| {
        match event {
            Event::Prefill { done, total } => {
                if let Some(bar) = &mut bar {
                    bar.set(done as u64, total as u64);
                }
            }
            Event::PromptToken(_) => {}
            Event::Token(token) => {
                bar = None;
                if let Err(error) = on_token(&token) {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        if scope.interrupted() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(completion),
    }
}

/// Text on stdout, token by token, that ends with a line end.
#[derive(Debug, Default)]
pub(crate) struct TextStream {
    at_line_start: bool,
}

impl TextStream {
    /// Writes `text` at once.
    pub(crate) fn push(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.at_line_start = text.ends_with('\n');
        output::text(text)
    }

    /// Ends the last line.
    pub(crate) fn finish(self) -> io::Result<()> {
        if self.at_line_start {
            return Ok(());
        }
        output::text("\n")
    }
}

/// The figures of a completion: counts, speeds, the time to the first token, and the seed that
/// makes the same text again.
pub(crate) fn figures(completion: &Completion, sampling: &SamplingParams) -> String {
    let c = completion;
    let mut line = counted(c.prompt_tokens, "prompt token");
    if c.cached_tokens > 0 {
        let _ = write!(line, " ({} cached)", c.cached_tokens);
    }
    let _ = write!(
        line,
        " at {:.1} tok/s, {}",
        c.prefill_tokens_per_second(),
        counted(c.new_tokens, "new token")
    );
    if c.new_tokens > 1 {
        let _ = write!(line, " at {:.1} tok/s", c.decode_tokens_per_second());
    }
    if c.new_tokens > 0 {
        let first = c.time_to_first_token.as_secs_f64() * 1e3;
        let _ = write!(line, ", first token after {first:.0} ms");
    }
    if sampling.temperature > 0.0 {
        let _ = write!(line, ", seed {}", sampling.seed);
    }
    if c.reason == FinishReason::Interrupted {
        line.push_str(", interrupted");
    }
    line
}

/// Shows on stderr exactly what the model sees.
pub(crate) fn show_prompt(tokenizer: &Tokenizer, ids: &[u32]) {
    let style = Style::stderr();
    let what = format!("The model sees {}:", counted(ids.len(), "prompt token"));
    output::note(style.bold(what));
    output::note(crate::commands::tokenize::listing(tokenizer, ids, style).trim_end());
}
