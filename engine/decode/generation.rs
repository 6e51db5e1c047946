//! One request on its way: what it feeds to the next forward pass and what it makes of the
//! logits that come back.

use std::ops::ControlFlow;
use std::time::Instant;

use onward_kernels::Batch;
use onward_kernels::decode::{SampleStart, StepRow};
use onward_kernels::ops::sample::{SampleRow, Sampled};
use onward_tokenizer::{DecodeStream, Tokenizer};

use super::session::Session;
use super::stop::{Matched, StopMatcher};
use crate::api::{Completion, Event, FinishReason, Request, Token, TopToken};
use crate::error::Result;

/// A request being served.
pub(crate) struct Generation<'a> {
    request: &'a Request,
    session: &'a mut Session,
    context: Context<'a>,
    stream: DecodeStream<'a>,
    stops: StopMatcher,
    /// A stop text appeared: what follows it is not shown.
    stopped_by_text: bool,
    /// Prompt and generated tokens; the cache holds a beginning of it.
    history: Vec<u32>,
    cached_at_start: usize,
    /// Tokens given to the forward pass under way.
    in_flight: usize,
    clock: Clock,
    finished: Option<FinishReason>,
}

/// What all requests of an engine share.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) stop_ids: &'a [u32],
    pub(crate) n_ctx: usize,
}

struct Clock {
    start: Instant,
    first_token: Option<Instant>,
    last_token: Instant,
}

/// Hears of events; breaks to interrupt the request.
pub(crate) type Listener<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

impl<'a> Generation<'a> {
    /// Starts on a request that has been checked.
    pub(crate) fn new(
        request: &'a Request,
        session: &'a mut Session,
        context: Context<'a>,
    ) -> Self {
        let now = Instant::now();
        let cached_at_start = session.rewind_to(&request.prompt);
        Self {
            request,
            cached_at_start,
            session,
            context,
            stream: context.tokenizer.stream_after(&request.prompt),
            stops: StopMatcher::new(&request.stop),
            stopped_by_text: false,
            history: request.prompt.clone(),
            in_flight: 0,
            clock: Clock {
                start: now,
                first_token: None,
                last_token: now,
            },
            finished: (request.max_tokens == Some(0)).then_some(FinishReason::Length),
        }
    }

    /// Whether nothing more is to be computed.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// Whether tokens of the prompt are yet to be run.
    pub(crate) fn is_reading(&self) -> bool {
        !self.is_finished() && self.session.tokens().len() < self.request.prompt.len()
    }

    /// How the tokens behind the prompt are to be drawn.
    pub(crate) fn start(&self) -> SampleStart<'_> {
        let request = self.request;
        SampleStart {
            row: SampleRow {
                params: &request.sampling,
                history: &self.history,
                position: self.history.len() as u64,
                allowed: None,
            },
            stops: match request.ignore_eos {
                true => &[],
                false => self.context.stop_ids,
            },
            max_tokens: self.max_tokens(),
            n_top: request.top_logprobs,
        }
    }

    /// Tokens behind the prompt at most.
    fn max_tokens(&self) -> usize {
        // The last token of a full context is drawn, but not run.
        let room = self.context.n_ctx + 1 - self.request.prompt.len();
        self.request.max_tokens.map_or(room, |max| max.min(room))
    }

    /// Tokens that may still be drawn, each by a step that runs the one before.
    pub(crate) fn n_left(&self) -> usize {
        let new_tokens = self.history.len() - self.request.prompt.len();
        self.max_tokens().saturating_sub(new_tokens)
    }

    /// The row of a step that runs the last token. The request has one: it is not reading.
    pub(crate) fn step_row(&self, slot: usize) -> StepRow<'_> {
        StepRow {
            slot,
            token: self.history.last().copied().unwrap_or_default(),
            position: self.history.len().saturating_sub(1),
            pages: self.session.pages(),
        }
    }

    /// Makes room for what the next `n` steps run.
    pub(crate) fn reserve(&mut self, n: usize) -> Result<()> {
        self.session.reserve(n.min(self.n_left()))?;
        Ok(())
    }

    /// The pages of the cache that it has.
    pub(crate) fn pages(&self) -> &[u32] {
        self.session.pages()
    }

    /// Records that a step has run the last token.
    pub(crate) fn commit_last(&mut self) {
        let done = self.session.tokens().len();
        self.session.commit(&self.history[done..]);
    }

    /// Adds this request's next tokens to a batch, at most `budget` of them. Returns the row
    /// whose logits decide the next token, if this pass reaches it.
    pub(crate) fn fill(&mut self, batch: &mut Batch, budget: usize) -> Result<Option<usize>> {
        let done = self.session.tokens().len();
        let n = (self.history.len() - done).min(budget);
        let pages = self.session.reserve(n)?;
        batch.push(&self.history[done..done + n], done, pages);
        self.in_flight = n;
        let complete = done + n == self.history.len();
        Ok((complete && n > 0).then(|| batch.n_rows() - 1))
    }

    /// Records that the pass for which [`Generation::fill`] was called has run.
    pub(crate) fn commit(&mut self, listener: &mut Listener<'_>) {
        let done = self.session.tokens().len();
        let tokens = &self.history[done..done + std::mem::take(&mut self.in_flight)];
        self.session.commit(tokens);
        let total = self.request.prompt.len();
        if done < total {
            self.tell(
                listener,
                Event::Prefill {
                    done: (done + tokens.len()).min(total),
                    total,
                },
            );
        }
    }

    /// Takes the next token.
    pub(crate) fn advance(&mut self, sampled: Sampled, listener: &mut Listener<'_>) -> Result<()> {
        let now = Instant::now();
        self.clock.first_token.get_or_insert(now);
        if !self.request.ignore_eos && self.context.stop_ids.contains(&sampled.token) {
            self.finished = Some(FinishReason::Stop);
            return Ok(());
        }
        self.clock.last_token = now;
        self.history.push(sampled.token);
        let piece = self.stream.push(sampled.token)?;
        let text = match self.stops.push(&piece) {
            Matched::Text(text) => text,
            Matched::Stop(text) => {
                self.finished = Some(FinishReason::Stop);
                self.stopped_by_text = true;
                text
            }
        };
        let token = Token {
            id: sampled.token,
            text,
            logprob: sampled.logprob,
            top: self.named(&sampled.top)?,
        };
        self.tell(listener, Event::Token(token));
        self.stop_at_limits();
        Ok(())
    }

    fn stop_at_limits(&mut self) {
        let new_tokens = self.history.len() - self.request.prompt.len();
        let full = self.history.len() > self.context.n_ctx;
        if full || self.request.max_tokens.is_some_and(|max| new_tokens >= max) {
            self.finished.get_or_insert(FinishReason::Length);
        }
    }

    fn named(&self, top: &[(u32, f32)]) -> Result<Vec<TopToken>> {
        let tokenizer = self.context.tokenizer;
        Ok(top
            .iter()
            .map(|&(id, logprob)| TopToken {
                id,
                text: tokenizer.token_text(id).unwrap_or_default(),
                logprob,
            })
            .collect())
    }

    fn tell(&mut self, listener: &mut Listener<'_>, event: Event) {
        if listener(event).is_break() {
            self.finished.get_or_insert(FinishReason::Interrupted);
        }
    }

    /// The request's outcome.
    pub(crate) fn complete(self) -> Completion {
        let reason = self.finished.unwrap_or(FinishReason::Interrupted);
        let Clock {
            start,
            first_token,
            last_token,
        } = self.clock;
        let first = first_token.unwrap_or_else(Instant::now);
        Completion {
            reason,
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: self.cached_at_start,
            new_tokens: self.history.len() - self.request.prompt.len(),
            prefill_time: first - start,
            decode_time: last_token.saturating_duration_since(first),
            time_to_first_token: first - start,
            tail: self.tail(),
        }
    }

    /// Text that was held back and that nothing can turn into a stop text any more.
    fn tail(mut self) -> String {
        if self.stopped_by_text {
            return String::new();
        }
        match self.stops.push(&self.stream.finish()) {
            Matched::Stop(text) => text,
            Matched::Text(text) => text + &self.stops.finish(),
        }
    }
}
