//! What a caller asks for and what it hears back.

use std::time::Duration;

use onward_kernels::ops::sample::SamplingParams;

use crate::sample::{Constraint, Thinking};

/// One completion to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt's token ids, BOS included where the model wants one; at least one.
    pub prompt: Vec<u32>,
    /// The most tokens to generate; `None` goes on to the end of the context.
    pub max_tokens: Option<usize>,
    /// How each token is drawn.
    pub sampling: SamplingParams,
    /// Texts that end the completion where they first appear; they are not part of it.
    pub stop: Vec<String>,
    /// Goes on past the model's own end-of-text tokens.
    pub ignore_eos: bool,
    /// How many alternatives to report with each token.
    pub top_logprobs: usize,
    /// Reports the prompt's tokens, too: how probable each was behind those before it. The whole
    /// prompt is computed then, whatever the cache holds of it.
    pub prompt_logprobs: bool,
    /// What the text must be.
    pub constraint: Option<Constraint>,
    /// A bound on what the model thinks before it answers; a constraint holds for the answer.
    pub thinking: Option<Thinking>,
    /// How long the request may wait before it is served.
    pub queue_timeout: Option<Duration>,
    /// How long it may take in all.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request with default sampling and no limits.
    pub fn new(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            max_tokens: None,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            ignore_eos: false,
            top_logprobs: 0,
            prompt_logprobs: false,
            constraint: None,
            thinking: None,
            queue_timeout: None,
            timeout: None,
        }
    }

    /// The most tokens that can be drawn in a context of `n_ctx` positions: the last one is drawn,
    /// but not run.
    pub(crate) fn max_new(&self, n_ctx: usize) -> usize {
        let room = (n_ctx + 1).saturating_sub(self.prompt.len());
        self.max_tokens.map_or(room, |max| max.min(room))
    }
}

/// What happens while a request is served, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// Some more of the prompt has been processed.
    Prefill {
        /// Prompt tokens in the cache so far.
        done: usize,
        /// All prompt tokens.
        total: usize,
    },
    /// The next token of the prompt, the first one left out; only where they were asked for.
    PromptToken(Token),
    /// A token was drawn.
    Token(Token),
}

/// A generated token.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text that became certain with it: whole characters only, possibly none, and nothing
    /// that may yet turn out to be the beginning of a stop text.
    pub text: String,
    /// Its natural log-probability under the model, before any sampling parameter.
    pub logprob: f32,
    /// The most probable tokens at this position, best first.
    pub top: Vec<TopToken>,
}

/// An alternative at some position.
#[derive(Clone, Debug)]
pub struct TopToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Its natural log-probability.
    pub logprob: f32,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended the text, or a stop text appeared.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
    /// The caller broke off.
    Interrupted,
    /// Its time was over.
    TimedOut,
}

impl FinishReason {
    /// The name in machine-readable output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Interrupted => "interrupted",
            Self::TimedOut => "timeout",
        }
    }
}

/// A finished completion.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Why it ended.
    pub reason: FinishReason,
    /// Text still owed after the last token: held back for a stop text that did not come, or
    /// the remains of an incomplete character.
    pub tail: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were in the cache already.
    pub cached_tokens: usize,
    /// Tokens generated, a final end-of-text token not counted.
    pub new_tokens: usize,
    /// From the request until it was begun.
    pub queue_time: Duration,
    /// Time spent on the prompt.
    pub prefill_time: Duration,
    /// From the first generated token to the last.
    pub decode_time: Duration,
    /// From the request to its first token.
    pub time_to_first_token: Duration,
}

impl Completion {
    /// Prompt tokens processed a second, cached ones not counted.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        per_second(self.prompt_tokens - self.cached_tokens, self.prefill_time)
    }

    /// Tokens generated a second after the first.
    pub fn decode_tokens_per_second(&self) -> f64 {
        per_second(self.new_tokens.saturating_sub(1), self.decode_time)
    }
}

fn per_second(n: usize, time: Duration) -> f64 {
    match time.as_secs_f64() {
        0.0 => 0.0,
        seconds => n as f64 / seconds,
    }
}
