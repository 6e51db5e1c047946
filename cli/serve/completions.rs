//! `/v1/completions`: a text goes on.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use onward_engine::{Completion, Token};
use onward_tokenizer::Tokenizer;

use super::app::{App, Loaded, now};
use super::body::JsonBody;
use super::generations::Generations;
use super::protocol::completion::{
    CompletionChoice, CompletionFields, CompletionLogprobs, CompletionResponse, TopToken,
};
use super::protocol::error::ApiError;
use super::protocol::generation::GenerationFields;
use super::protocol::{Prompt, Usage};
use super::respond::{Api, respond};
use super::settings::Settings;
use super::{fill, limits, logs, tokens};

/// Tokens where the request does not say how many, as in OpenAI's API.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Continue texts
#[utoipa::path(
    post,
    path = "/v1/completions",
    request_body = super::openapi::CompletionRequest,
    responses(
        (status = 200, description = "Completions, or a stream of their pieces", body = CompletionResponse),
        (status = "4XX", description = "A request that cannot be served", body = super::protocol::error::ErrorBody),
    )
)]
pub(crate) async fn completions(
    State(app): State<App>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let fields: GenerationFields = body.read()?;
    let own: CompletionFields = body.read()?;
    let loaded = app.loaded_as(fields.model.as_deref())?;
    let mut settings = Settings::new(&fields, &app, loaded)?;
    settings
        .request
        .max_tokens
        .get_or_insert(DEFAULT_MAX_TOKENS);
    if let Some(n) = own.logprobs {
        let limit = limits::MAX_TOP_LOGPROBS;
        limits::at_most("too_many_logprobs", "logprobs", "alternatives", n, limit)?;
        settings.request.top_logprobs = n;
    }
    let echo = own.echo.unwrap_or(false);
    if echo && own.suffix.is_some() {
        let message = "echo cannot be combined with suffix, whose text comes behind the completion";
        return Err(ApiError::field("echo", message));
    }
    settings.request.prompt_logprobs = echo && own.logprobs.is_some();
    let prompts: Vec<Prompt> = own.prompt.into();
    limits::at_most(
        "too_many_choices",
        "prompt",
        "prompts",
        prompts.len(),
        limits::MAX_CHOICES,
    )?;
    if prompts.is_empty() {
        return Err(ApiError::field("prompt", "prompt is empty"));
    }
    let suffix = own.suffix;
    let encoded = tokens::blocking(&app, move |loaded| encode(loaded, prompts, suffix)).await?;
    let ids: Vec<_> = encoded.iter().map(|prompt| prompt.ids.clone()).collect();
    let requests = settings.requests(&ids)?;
    let api = CompletionApi {
        id: app.new_id("cmpl"),
        created: now(),
        model: app.model_name().to_owned(),
        choices: encoded
            .into_iter()
            .flat_map(|prompt| vec![prompt; settings.n])
            .map(|prompt| Progress::new(prompt, echo))
            .collect(),
        with_logprobs: own.logprobs.is_some(),
        with_ids: own.return_token_ids.unwrap_or(false),
        app: app.clone(),
    };
    let generations = Generations::start(&app, requests, "prompt").await?;
    respond(api, generations, &settings).await
}

/// A prompt as it was sent, and what the model sees of it.
#[derive(Clone, Debug)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
}

fn encode(
    loaded: &Loaded,
    prompts: Vec<Prompt>,
    suffix: Option<String>,
) -> Result<Vec<Encoded>, ApiError> {
    let tokenizer = &loaded.model().tokenizer;
    let encode = |prompt| {
        let encoded = match (prompt, &suffix) {
            (Prompt::Text(text), None) => Encoded {
                ids: tokens::prompt_ids(loaded, "prompt", &text)?,
                text,
            },
            (Prompt::Text(text), Some(suffix)) => Encoded {
                ids: fill::prompt(loaded, &text, suffix)?,
                text,
            },
            (Prompt::Ids(ids), None) => Encoded {
                text: tokens::text(loaded, "prompt", &ids)?,
                ids,
            },
            (Prompt::Ids(_), Some(_)) => {
                let message = "suffix needs a prompt that is a text";
                return Err(ApiError::field("suffix", message));
            }
        };
        logs::prompt(tokenizer, &encoded.ids);
        Ok(encoded)
    };
    prompts.into_iter().map(encode).collect()
}

/// Completions as `/v1/completions` writes them.
struct CompletionApi {
    id: String,
    created: u64,
    model: String,
    choices: Vec<Progress>,
    with_logprobs: bool,
    with_ids: bool,
    app: App,
}

/// How far a completion has come.
struct Progress {
    /// The prompt's text until it has been sent, where it is to be.
    echo: Option<String>,
    /// The prompt's ids until its first piece has been sent.
    prompt: Vec<u32>,
    /// Characters of the tokens so far.
    offset: usize,
}

impl Progress {
    fn new(prompt: Encoded, echo: bool) -> Self {
        Self {
            prompt: prompt.ids,
            echo: echo.then_some(prompt.text),
            offset: 0,
        }
    }
}

impl CompletionApi {
    fn tokenizer(&self) -> Option<&Tokenizer> {
        let loaded = self.app.loaded().ok()?;
        Some(&loaded.model().tokenizer)
    }

    fn logprobs(&mut self, index: usize, token: &Token) -> Option<CompletionLogprobs> {
        let mut top: BTreeMap<String, f32> = BTreeMap::new();
        for token in &token.top {
            // Two tokens may read the same; the likelier one comes first.
            top.entry(token.text.clone()).or_insert(token.logprob);
        }
        let top = (!top.is_empty()).then_some(top);
        let mut entry = self.entry(index, token.id, Some(token.logprob), top)?;
        if self.with_ids {
            let named = token.top.iter().map(|token| TopToken {
                id: token.id,
                token: token.text.clone(),
                logprob: token.logprob,
            });
            entry.top_tokens = Some(vec![named.collect()]);
        }
        Some(entry)
    }

    /// The entry of a token, if they are wanted.
    fn entry(
        &mut self,
        index: usize,
        id: u32,
        logprob: Option<f32>,
        top: Option<BTreeMap<String, f32>>,
    ) -> Option<CompletionLogprobs> {
        if !self.with_logprobs {
            return None;
        }
        let tokenizer = self.tokenizer()?;
        let text = tokenizer.token_text(id).unwrap_or_default();
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        let offset = &mut self.choices[index].offset;
        let begin = *offset;
        *offset += text.chars().count();
        Some(CompletionLogprobs {
            tokens: vec![text],
            bytes: vec![bytes],
            token_logprobs: vec![logprob],
            top_logprobs: vec![top],
            text_offset: vec![begin],
            top_tokens: self.with_ids.then(|| vec![Vec::new()]),
        })
    }
}

impl Api for CompletionApi {
    type Choice = CompletionChoice;
    type Answer = CompletionResponse;

    fn open(&mut self, index: usize) -> Option<CompletionChoice> {
        let prompt = std::mem::take(&mut self.choices[index].prompt);
        let echo = self.choices[index].echo.take();
        if echo.is_none() && !self.with_ids {
            return None;
        }
        // Nothing tells how probable a first token is.
        let first = echo.as_ref().and(prompt.first().copied());
        Some(CompletionChoice {
            index,
            text: echo.unwrap_or_default(),
            logprobs: first.and_then(|id| self.entry(index, id, None, None)),
            prompt_token_ids: self.with_ids.then_some(prompt),
            ..CompletionChoice::default()
        })
    }

    fn prompt_token(&mut self, index: usize, token: Token) -> Option<CompletionChoice> {
        Some(CompletionChoice {
            index,
            logprobs: Some(self.logprobs(index, &token)?),
            ..CompletionChoice::default()
        })
    }

    fn token(&mut self, index: usize, token: Token) -> Option<CompletionChoice> {
        let logprobs = self.logprobs(index, &token);
        let says = !token.text.is_empty() || logprobs.is_some() || self.with_ids;
        says.then(|| CompletionChoice {
            index,
            text: token.text,
            logprobs,
            token_ids: self.with_ids.then(|| vec![token.id]),
            ..CompletionChoice::default()
        })
    }

    fn end(&mut self, index: usize, completion: &Completion) -> CompletionChoice {
        CompletionChoice {
            index,
            text: completion.tail.clone(),
            finish_reason: Some(completion.reason.as_str()),
            ..CompletionChoice::default()
        }
    }

    fn add(whole: &mut CompletionChoice, piece: CompletionChoice) {
        whole.text.push_str(&piece.text);
        whole.finish_reason = whole.finish_reason.or(piece.finish_reason);
        if let Some(ids) = piece.token_ids {
            whole.token_ids.get_or_insert_default().extend(ids);
        }
        match (&mut whole.logprobs, piece.logprobs) {
            (Some(all), Some(more)) => all.extend(more),
            (none @ None, more) => *none = more,
            (Some(_), None) => {}
        }
    }

    fn answer(
        &self,
        choices: Vec<CompletionChoice>,
        usage: Option<Usage>,
        _is_piece: bool,
    ) -> CompletionResponse {
        CompletionResponse {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }

    fn param(&self) -> &'static str {
        "prompt"
    }
}

impl CompletionLogprobs {
    fn extend(&mut self, more: Self) {
        self.tokens.extend(more.tokens);
        self.bytes.extend(more.bytes);
        self.token_logprobs.extend(more.token_logprobs);
        self.top_logprobs.extend(more.top_logprobs);
        self.text_offset.extend(more.text_offset);
        if let (Some(all), Some(more)) = (&mut self.top_tokens, more.top_tokens) {
            all.extend(more);
        }
    }
}
