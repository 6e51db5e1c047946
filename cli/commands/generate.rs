//! `onward generate`: continues a text, streaming it as it is made.

use std::io;

use clap::Args;
use onward_engine::{Completion, FinishReason, Request, Token, TopToken};
use serde::Serialize;

use crate::Outcome;
use crate::args::{ModelArgs, SamplingArgs, TemplateArgs};
use crate::conversation::message;
use crate::device::load_engine;
use crate::interrupt::Scope;
use crate::output::{self, Style};
use crate::prompt::{Template, prompt_ids};
use crate::stream::{self, TextStream};
use crate::text::TextArgs;
use crate::values::{TokenLimit, stop_text, token_limit, whole};

const EXAMPLES: &str = "\
Examples:
  onward generate \"The sea was calm that\" -n 64
  onward generate -f story.txt --temp 0.7 --top-p 0.9 --seed 42
  onward generate -m qwen.gguf --chat \"Write a haiku about rust.\" --system \"You are a poet.\"
  onward generate \"1, 2, 3,\" --temp 0 --stop \" 7\" --json --top-logprobs 3

The last line on stderr gives the prompt's tokens and speed, the new tokens and their speed, the
time to the first token, and the seed with which the same text comes again.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    text: TextArgs,

    /// Generate at most N tokens; -1 goes on until the model stops or the context ends
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        value_parser = token_limit,
        default_value = "256"
    )]
    max_tokens: TokenLimit,

    /// End where TEXT first appears, which is not shown (repeatable)
    #[arg(long, value_name = "TEXT", value_parser = stop_text)]
    stop: Vec<String>,

    /// Go on past the model's own end-of-text token
    #[arg(long)]
    ignore_eos: bool,

    /// Show on stderr the ids and tokens that the model sees
    #[arg(long)]
    verbose_prompt: bool,

    /// Print one JSON object a token, then {"done":{…}}
    #[arg(long)]
    json: bool,

    /// With --json, give the K likeliest tokens at each position
    #[arg(
        long,
        value_name = "K",
        value_parser = whole,
        default_value_t = 0,
        hide_default_value = true,
        requires = "json"
    )]
    top_logprobs: usize,

    /// Wrap the text in the model's chat template, as a user's message
    #[arg(long, help_heading = "Conversation")]
    chat: bool,

    #[command(flatten)]
    template: TemplateArgs,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct TokenLine<'a> {
    token: u32,
    text: &'a str,
    logprob: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<TopLine<'a>>>,
}

#[derive(Serialize)]
struct TopLine<'a> {
    token: u32,
    text: &'a str,
    logprob: f32,
}

impl<'a> From<&'a TopToken> for TopLine<'a> {
    fn from(token: &'a TopToken) -> Self {
        Self {
            token: token.id,
            text: &token.text,
            logprob: token.logprob,
        }
    }
}

#[derive(Serialize)]
struct DoneLine<'a> {
    done: Done<'a>,
}

#[derive(Serialize)]
struct Done<'a> {
    reason: &'static str,
    prompt_tokens: usize,
    new_tokens: usize,
    prefill_tps: f64,
    decode_tps: f64,
    ttft_ms: f64,
    /// What was held back for a stop text that did not come.
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
}

pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<Outcome> {
    let text = args.text.read_prompt()?;
    let mut engine = load_engine(&args.model)?;
    let text = if args.wants_template() {
        let template = Template::load(&engine, &args.template)?;
        let system = args.template.system.as_deref();
        let system = system.map(|text| message("system", text));
        let messages: Vec<_> = system.into_iter().chain([message("user", &text)]).collect();
        template.get(&engine)?.render(&messages, true)?
    } else {
        text
    };
    let request = Request {
        max_tokens: args.max_tokens.0,
        sampling: args.sampling.over(engine.default_sampling().clone()),
        stop: args.stop.clone(),
        ignore_eos: args.ignore_eos,
        top_logprobs: args.top_logprobs,
        ..Request::new(prompt_ids(engine.tokenizer(), &text)?)
    };
    if args.verbose_prompt {
        stream::show_prompt(engine.tokenizer(), &request.prompt);
    }

    let scope = Scope::open();
    let mut stream = TextStream::default();
    let json = args.json;
    let completion = stream::serve(&mut engine, &request, &scope, &mut |token| {
        if json {
            token_line(token, request.top_logprobs > 0)
        } else {
            stream.push(&token.text)
        }
    })?;
    if json {
        output::json(&DoneLine {
            done: done(&completion),
        })?;
    } else {
        stream.push(&completion.tail)?;
        stream.finish()?;
    }
    let figures = stream::figures(&completion, &request.sampling);
    output::note(Style::stderr().dim(figures));
    Ok(match completion.reason {
        FinishReason::Interrupted => Outcome::Interrupted,
        _ => Outcome::Done,
    })
}

impl GenerateArgs {
    /// Naming a template or instructions asks for a conversation as `--chat` does.
    fn wants_template(&self) -> bool {
        self.chat || self.template.system.is_some() || self.template.chat_template.is_some()
    }
}

fn token_line(token: &Token, with_top: bool) -> io::Result<()> {
    output::json(&TokenLine {
        token: token.id,
        text: &token.text,
        logprob: token.logprob,
        top: with_top.then(|| token.top.iter().map(TopLine::from).collect()),
    })
}

fn done(completion: &Completion) -> Done<'_> {
    Done {
        reason: completion.reason.as_str(),
        prompt_tokens: completion.prompt_tokens,
        new_tokens: completion.new_tokens,
        prefill_tps: completion.prefill_tokens_per_second(),
        decode_tps: completion.decode_tokens_per_second(),
        ttft_ms: completion.time_to_first_token.as_secs_f64() * 1e3,
        text: &completion.tail,
    }
}
