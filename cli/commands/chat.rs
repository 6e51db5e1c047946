//! `onward chat`: a conversation in the terminal.

use std::path::Path;

use clap::Args;
use onward_engine::{Completion, Engine, FinishReason, Request};
use onward_kernels::ops::sample::SamplingParams;

use crate::Outcome;
use crate::args::{ModelArgs, SamplingArgs, TemplateArgs};
use crate::conversation::Conversation;
use crate::device::load_engine;
use crate::interrupt::Scope;
use crate::lines::Lines;
use crate::output::{self, Style};
use crate::prompt::Template;
use crate::stream::{self, TextStream};
use crate::values::{TokenLimit, token_limit};

const EXAMPLES: &str = "\
Examples:
  onward chat -m qwen.gguf
  onward chat -m qwen.gguf --system \"Answer in one sentence.\" --temp 0.4
  printf 'Name a prime.\\nAnother?\\n' | onward chat -m qwen.gguf

In the conversation:
  /reset       forget everything said        /undo    forget the last turn
  /save FILE   write the conversation        /help    show these
  /exit        leave, as Ctrl-D does         Ctrl-C   interrupt the answer
  \\            at the end of a line: the message goes on in the next";

const HELP: &str = "\
/reset       forget everything said
/undo        forget the last turn
/save FILE   write the conversation: JSON if FILE ends in .json, else text
/exit        leave, as Ctrl-D does
Ctrl-C interrupts an answer and keeps what there is of it. A line that ends in \\ goes on.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChatArgs {
    /// Answer with at most N tokens; -1 goes on until the model stops or the context ends
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        value_parser = token_limit,
        default_value = "-1"
    )]
    max_tokens: TokenLimit,

    /// Show on stderr the ids and tokens that the model sees
    #[arg(long)]
    verbose_prompt: bool,

    #[command(flatten)]
    template: TemplateArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    model: ModelArgs,
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Message(&'a str),
    Reset,
    Undo,
    Save(&'a Path),
    Help,
    Exit,
    Nothing,
    Unknown(&'a str),
}

impl<'a> From<&'a str> for Line<'a> {
    fn from(line: &'a str) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        if !line.starts_with('/') {
            return Self::Message(line);
        }
        match line.split_once(char::is_whitespace) {
            Some(("/save", file)) => Self::Save(Path::new(file.trim_start())),
            None if line == "/reset" => Self::Reset,
            None if line == "/undo" => Self::Undo,
            None if line == "/help" => Self::Help,
            None if line == "/exit" || line == "/quit" => Self::Exit,
            _ => Self::Unknown(line),
        }
    }
}

pub(crate) fn run(args: &ChatArgs) -> anyhow::Result<Outcome> {
    let mut engine = load_engine(&args.model)?;
    let mut lines = Lines::open()?;
    let style = Style::stderr();
    let mut chat = Chat {
        args,
        template: Template::load(&engine, &args.template)?,
        sampling: args.sampling.over(engine.default_sampling().clone()),
        conversation: Conversation::new(args.template.system.clone()),
        style,
    };
    if lines.is_terminal() {
        output::note(style.dim("/help shows the commands, Ctrl-D leaves."));
    }
    while let Some(line) = lines.next()? {
        let step = match Line::from(line.as_str()) {
            Line::Exit => break,
            Line::Message(text) => chat.answer(&mut engine, text),
            command => chat.command(&command).map(|()| Outcome::Done),
        };
        match step {
            Ok(Outcome::Interrupted) if !lines.is_terminal() => return Ok(Outcome::Interrupted),
            Ok(_) => {}
            // Someone at a terminal can do something about it; a script should hear of it.
            Err(error) if lines.is_terminal() && !crate::is_broken_pipe(&error) => {
                output::error(&error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome::Done)
}

struct Chat<'a> {
    args: &'a ChatArgs,
    template: Template,
    sampling: SamplingParams,
    conversation: Conversation,
    style: Style,
}

impl Chat<'_> {
    /// Answers a message, streaming, and keeps the turn, even an interrupted one.
    fn answer(&mut self, engine: &mut Engine, user: &str) -> anyhow::Result<Outcome> {
        let tokenizer = engine.tokenizer();
        let template = self.template.get(engine)?;
        let prompt = self.conversation.prompt(user, template, tokenizer)?;
        if self.args.verbose_prompt {
            stream::show_prompt(tokenizer, &prompt.ids);
        }
        let request = Request {
            max_tokens: self.args.max_tokens.0,
            sampling: self.sampling.clone(),
            ..Request::new(prompt.ids.clone())
        };
        let scope = Scope::open();
        let mut out = TextStream::default();
        let (mut answer, mut drawn) = (String::new(), Vec::new());
        let completion = stream::serve(engine, &request, &scope, &mut |token| {
            answer.push_str(&token.text);
            drawn.push(token.id);
            out.push(&token.text)
        })?;
        out.push(&completion.tail)?;
        out.finish()?;
        answer.push_str(&completion.tail);
        self.conversation
            .push(user.to_owned(), prompt, answer, &drawn);
        self.report(&completion);
        Ok(match completion.reason {
            FinishReason::Interrupted => Outcome::Interrupted,
            _ => Outcome::Done,
        })
    }

    fn command(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        match line {
            Line::Reset => {
                self.conversation.reset();
                self.say("The conversation is empty again.");
            }
            Line::Undo if self.conversation.undo() => self.say("The last turn is forgotten."),
            Line::Undo => self.say("There is no turn to forget."),
            Line::Save(path) => {
                self.conversation.save(path)?;
                self.say(&format!("Saved to {}.", path.display()));
            }
            Line::Help => self.say(HELP),
            Line::Unknown(line) => {
                self.say(&format!("{line} is not a command; /help shows them all."));
            }
            Line::Message(_) | Line::Exit | Line::Nothing => {}
        }
        Ok(())
    }

    fn report(&self, completion: &Completion) {
        self.say(&stream::figures(completion, &self.sampling));
    }

    fn say(&self, text: &str) {
        output::note(self.style.dim(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        let cases = [
            (" hello ", Line::Message("hello")),
            ("", Line::Nothing),
            ("/undo", Line::Undo),
            ("/save  a b.json", Line::Save(Path::new("a b.json"))),
            ("/save", Line::Unknown("/save")),
            ("/resets", Line::Unknown("/resets")),
            ("/undo now", Line::Unknown("/undo now")),
            ("/quit", Line::Exit),
        ];
        for (line, expected) in cases {
            assert_eq!(Line::from(line), expected, "{line:?}");
        }
    }
}
