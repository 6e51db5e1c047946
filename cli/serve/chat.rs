//! `/v1/chat/completions`: a conversation goes on.

use axum::extract::State;
use axum::response::Response;
use onward_engine::{Completion, Constraint, FinishReason, Token};

use super::answer::{AnswerKind, AnswerParser, Piece};
use super::app::{App, now};
use super::body::JsonBody;
use super::conversation::{Prompt, thinking};
use super::generations::Generations;
use super::protocol::Usage;
use super::protocol::chat::{
    Alternative, Answer, CalledFunction, ChatChoice, ChatFields, ChatLogprobs, ChatResponse,
    TokenLogprob, ToolCall,
};
use super::protocol::error::ApiError;
use super::protocol::generation::GenerationFields;
use super::respond::{Api, respond};
use super::settings::Settings;
use super::{limits, tokens};

/// Answer in a conversation
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = super::openapi::ChatRequest,
    responses(
        (status = 200, description = "Answers, or a stream of their pieces", body = ChatResponse),
        (status = "4XX", description = "A request that cannot be served", body = super::protocol::error::ErrorBody),
    )
)]
pub(crate) async fn chat_completions(
    State(app): State<App>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let fields: GenerationFields = body.read()?;
    let own: ChatFields = body.read()?;
    let loaded = app.loaded_as(fields.model.as_deref())?;
    let mut settings = Settings::new(&fields, &app, loaded)?;
    let with_logprobs = own.logprobs.unwrap_or(false);
    if let Some(n) = own.top_logprobs {
        let (name, limit) = ("top_logprobs", limits::MAX_TOP_LOGPROBS);
        limits::at_most("too_many_logprobs", name, "alternatives", n, limit)?;
        if !with_logprobs && n > 0 {
            let message = "top_logprobs needs logprobs to be true";
            return Err(ApiError::field(name, message));
        }
        settings.request.top_logprobs = n;
    }
    let budget = own.thinking_budget;
    let prompt = tokens::blocking(&app, move |loaded| Prompt::new(loaded, &own)).await?;
    if let Some(schema) = prompt.call_schema {
        if settings.request.constraint.is_some() {
            let message = "tool_choice forces a call, which cannot be combined with a constraint";
            return Err(ApiError::field("tool_choice", message));
        }
        settings.request.constraint = Some(Constraint::JsonSchema(schema));
    }
    let is_constrained = settings.request.constraint.is_some();
    settings.request.thinking = thinking(loaded, prompt.kind, budget, is_constrained)?;
    let requests = settings.requests(&[prompt.ids])?;
    let api = ChatApi {
        id: app.new_id("chatcmpl"),
        created: now(),
        model: app.model_name().to_owned(),
        choices: requests
            .iter()
            .map(|_| Progress::new(prompt.kind))
            .collect(),
        with_logprobs,
        app: app.clone(),
    };
    let generations = Generations::start(&app, requests, "messages").await?;
    respond(api, generations, &settings).await
}

/// Answers as `/v1/chat/completions` writes them.
struct ChatApi {
    id: String,
    created: u64,
    model: String,
    choices: Vec<Progress>,
    with_logprobs: bool,
    app: App,
}

/// How far an answer has come.
struct Progress {
    parser: Option<AnswerParser>,
    n_calls: usize,
}

impl Progress {
    fn new(kind: AnswerKind) -> Self {
        Self {
            parser: Some(AnswerParser::new(kind)),
            n_calls: 0,
        }
    }
}

impl ChatApi {
    /// The pieces as one delta; none where there are none.
    fn delta(&mut self, index: usize, pieces: Vec<Piece>) -> Option<Answer> {
        let mut delta = Answer::default();
        for piece in &pieces {
            match piece {
                Piece::Reasoning(text) => append(&mut delta.reasoning_content, text),
                Piece::Content(text) => append(&mut delta.content, text),
                Piece::Call(call) => {
                    let number = self.choices[index].n_calls;
                    self.choices[index].n_calls += 1;
                    delta.tool_calls.get_or_insert_default().push(ToolCall {
                        index: number,
                        id: self.app.new_id("call"),
                        kind: "function",
                        function: CalledFunction {
                            name: call.name.clone(),
                            arguments: call.arguments.clone(),
                        },
                    });
                }
            }
        }
        (!pieces.is_empty()).then_some(delta)
    }

    fn logprobs(&self, token: &Token) -> Option<ChatLogprobs> {
        if !self.with_logprobs {
            return None;
        }
        let tokenizer = &self.app.loaded().ok()?.model().tokenizer;
        let bytes = |id| tokenizer.token_bytes(id).unwrap_or_default();
        let top = token.top.iter().map(|token| Alternative {
            token: token.text.clone(),
            logprob: token.logprob,
            bytes: bytes(token.id),
        });
        let entry = TokenLogprob {
            token: tokenizer.token_text(token.id).unwrap_or_default(),
            logprob: token.logprob,
            bytes: bytes(token.id),
            top_logprobs: top.collect(),
        };
        Some(ChatLogprobs {
            content: vec![entry],
            refusal: None,
        })
    }
}

impl Api for ChatApi {
    type Choice = ChatChoice;
    type Answer = ChatResponse;

    fn open(&mut self, index: usize) -> Option<ChatChoice> {
        let delta = Answer {
            role: Some("assistant"),
            content: Some(String::new()),
            ..Answer::default()
        };
        Some(ChatChoice {
            index,
            delta: Some(delta),
            ..ChatChoice::default()
        })
    }

    fn prompt_token(&mut self, _index: usize, _token: Token) -> Option<ChatChoice> {
        None
    }

    fn token(&mut self, index: usize, token: Token) -> Option<ChatChoice> {
        let logprobs = self.logprobs(&token);
        let parser = self.choices[index].parser.as_mut()?;
        let pieces = parser.push(&token.text);
        let delta = self.delta(index, pieces);
        (delta.is_some() || logprobs.is_some()).then(|| ChatChoice {
            index,
            delta: Some(delta.unwrap_or_default()),
            logprobs,
            ..ChatChoice::default()
        })
    }

    fn end(&mut self, index: usize, completion: &Completion) -> ChatChoice {
        let mut pieces = Vec::new();
        if let Some(mut parser) = self.choices[index].parser.take() {
            pieces.extend(parser.push(&completion.tail));
            pieces.extend(parser.finish());
        }
        let delta = self.delta(index, pieces).unwrap_or_default();
        let calls = self.choices[index].n_calls > 0;
        ChatChoice {
            index,
            delta: Some(delta),
            finish_reason: Some(match completion.reason {
                FinishReason::Stop if calls => "tool_calls",
                reason => reason.as_str(),
            }),
            ..ChatChoice::default()
        }
    }

    fn add(whole: &mut ChatChoice, piece: ChatChoice) {
        let (Some(answer), Some(delta)) = (&mut whole.delta, piece.delta) else {
            return;
        };
        for (text, more) in [
            (&mut answer.content, &delta.content),
            (&mut answer.reasoning_content, &delta.reasoning_content),
        ] {
            if let Some(more) = more {
                append(text, more);
            }
        }
        if let Some(calls) = delta.tool_calls {
            answer.tool_calls.get_or_insert_default().extend(calls);
        }
        if let Some(logprobs) = piece.logprobs {
            let all = whole.logprobs.get_or_insert_default();
            all.content.extend(logprobs.content);
        }
        whole.finish_reason = whole.finish_reason.or(piece.finish_reason);
    }

    fn answer(
        &self,
        mut choices: Vec<ChatChoice>,
        usage: Option<Usage>,
        is_piece: bool,
    ) -> ChatResponse {
        if !is_piece {
            choices.iter_mut().for_each(completed);
        }
        ChatResponse {
            id: self.id.clone(),
            object: match is_piece {
                true => "chat.completion.chunk",
                false => "chat.completion",
            },
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }

    fn param(&self) -> &'static str {
        "messages"
    }
}

/// A sum of deltas is a message; one of calls alone has no content.
fn completed(choice: &mut ChatChoice) {
    choice.message = choice.delta.take();
    if let Some(message) = &mut choice.message
        && message.tool_calls.is_some()
    {
        message.content.take_if(|content| content.trim().is_empty());
    }
}

fn append(text: &mut Option<String>, more: &str) {
    text.get_or_insert_default().push_str(more);
}
