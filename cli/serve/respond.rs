//! From what the engine tells to an HTTP response: one body, or server-sent events.
//!
//! A response as one body is the sum of the pieces that a stream has.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use onward_engine::{Completion, Event, FinishReason, Token, Update};
use serde::Serialize;

use super::generations::Generations;
use super::protocol::Usage;
use super::protocol::error::ApiError;
use super::settings::Settings;

/// How often a stream that has nothing to say shows that it lives, as it does while a long prompt
/// is read.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// One of the APIs' ways to write completions.
pub(crate) trait Api: Send + 'static {
    /// A completion, or a piece of one.
    type Choice: Send;
    /// What holds completions.
    type Answer: Serialize;

    /// What comes before the first token of completion `index`.
    fn open(&mut self, index: usize) -> Option<Self::Choice>;
    /// What a token of the prompt of completion `index` adds, where it was asked for.
    fn prompt_token(&mut self, index: usize, token: Token) -> Option<Self::Choice>;
    /// What a token of completion `index` adds.
    fn token(&mut self, index: usize, token: Token) -> Option<Self::Choice>;
    /// What the end of completion `index` adds.
    fn end(&mut self, index: usize, completion: &Completion) -> Self::Choice;
    /// Adds a piece to the completion that it is of.
    fn add(whole: &mut Self::Choice, piece: Self::Choice);
    /// An answer with these completions, or with pieces of them.
    fn answer(
        &self,
        choices: Vec<Self::Choice>,
        usage: Option<Usage>,
        is_piece: bool,
    ) -> Self::Answer;
    /// The field that has the prompt.
    fn param(&self) -> &'static str;
}

/// Answers with what the generations make.
///
/// # Errors
/// A request that fails before anything was sent.
pub(crate) async fn respond<A: Api>(
    api: A,
    generations: Generations,
    settings: &Settings,
) -> Result<Response, ApiError> {
    let mut pieces = Pieces::new(api, generations, settings);
    if settings.stream {
        return Ok(sse(pieces));
    }
    let mut wholes: Vec<Option<A::Choice>> = Vec::new();
    wholes.resize_with(pieces.generations.len(), || None);
    while let Some((index, piece)) = pieces.next().await? {
        match &mut wholes[index] {
            Some(whole) => A::add(whole, piece),
            empty => *empty = Some(piece),
        }
    }
    let choices = wholes.into_iter().flatten().collect();
    let answer = pieces.api.answer(choices, Some(pieces.usage), false);
    Ok(Json(answer).into_response())
}

/// The pieces of all completions as they come.
struct Pieces<A: Api> {
    api: A,
    generations: Generations,
    n_opened: usize,
    /// Completions of a prompt.
    n: usize,
    include_usage: bool,
    usage: Usage,
    state: Place,
}

/// How far a stream has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Pieces,
    Done,
    Ended,
}

impl<A: Api> Pieces<A> {
    fn new(api: A, generations: Generations, settings: &Settings) -> Self {
        Self {
            api,
            generations,
            n_opened: 0,
            n: settings.n,
            include_usage: settings.include_usage,
            usage: Usage::default(),
            state: Place::Pieces,
        }
    }

    /// The next piece and the completion that it is of; none once all are complete.
    async fn next(&mut self) -> Result<Option<(usize, A::Choice)>, ApiError> {
        while self.n_opened < self.generations.len() {
            let index = self.n_opened;
            self.n_opened += 1;
            if let Some(piece) = self.api.open(index) {
                return Ok(Some((index, piece)));
            }
        }
        while let Some((index, update)) = self.generations.next().await {
            let piece = match update {
                Update::Event(Event::Prefill { .. }) => None,
                Update::Event(Event::PromptToken(token)) => self.api.prompt_token(index, token),
                Update::Event(Event::Token(token)) => self.api.token(index, token),
                Update::Finished(completion) => Some(self.finished(index, &completion)?),
                Update::Failed(error) => {
                    return Err(ApiError::of_engine(&error, self.api.param()));
                }
            };
            if let Some(piece) = piece {
                return Ok(Some((index, piece)));
            }
        }
        Ok(None)
    }

    fn finished(&mut self, index: usize, completion: &Completion) -> Result<A::Choice, ApiError> {
        match completion.reason {
            FinishReason::Interrupted => {
                let message = "the server is shutting down";
                return Err(ApiError::unavailable("shutting_down", message));
            }
            FinishReason::TimedOut => return Err(ApiError::timed_out()),
            FinishReason::Stop | FinishReason::Length => {}
        }
        let is_first = index.is_multiple_of(self.n);
        let of_prompt = |n: usize| if is_first { n } else { 0 };
        let details = self.usage.prompt_tokens_details;
        self.usage = Usage::new(
            self.usage.prompt_tokens + of_prompt(completion.prompt_tokens),
            details.cached_tokens + of_prompt(completion.cached_tokens),
            self.usage.completion_tokens + completion.new_tokens,
        );
        Ok(self.api.end(index, completion))
    }

    /// The next event of a stream; none once it has ended.
    async fn event(&mut self) -> Option<SseEvent> {
        match self.state {
            Place::Pieces => Some(match self.next().await {
                Ok(Some((_, piece))) => data(&self.api.answer(vec![piece], None, true)),
                Ok(None) if self.include_usage => {
                    self.state = Place::Done;
                    data(&self.api.answer(Vec::new(), Some(self.usage), true))
                }
                Ok(None) => {
                    self.state = Place::Ended;
                    SseEvent::default().data("[DONE]")
                }
                Err(error) => {
                    self.state = Place::Done;
                    data(error.body()).event("error")
                }
            }),
            Place::Done => {
                self.state = Place::Ended;
                Some(SseEvent::default().data("[DONE]"))
            }
            Place::Ended => None,
        }
    }
}

fn data(value: &impl Serialize) -> SseEvent {
    // Values of ours have no maps with keys that are no strings.
    let text = serde_json::to_string(value).unwrap_or_default();
    SseEvent::default().data(text)
}

fn sse<A: Api>(pieces: Pieces<A>) -> Response {
    let events = stream::unfold(pieces, async |mut pieces| {
        let event = pieces.event().await?;
        Some((Ok::<_, Infallible>(event), pieces))
    });
    let alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    Sse::new(events).keep_alive(alive).into_response()
}
