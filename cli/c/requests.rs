//! Requests and what becomes of them.

use std::ffi::{CString, c_char};
use std::time::Duration;

use onward_engine::{Completion, Event, FinishReason, Refusal, Request, Ticket, Token, Update};
use onward_kernels::ops::sample::SamplingParams;

use crate::handles::OnwardEngine;
use crate::status::{OnwardStatus, alone, call, invalid, shared, text};

/// A request that was taken.
pub struct OnwardRequest {
    ticket: Ticket,
    /// What the last event lent out.
    text: CString,
}

/// How tokens are drawn, and how many. Begin with [`onward_default_sampling`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OnwardSampling {
    /// The most tokens to generate; 0 goes on to the end of the context.
    pub max_tokens: usize,
    /// Sharpens (below 1) or flattens (above 1) the distribution; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the fewest tokens whose probabilities reach this together.
    pub top_p: f32,
    /// Keeps tokens at least so many times as likely as the likeliest.
    pub min_p: f32,
    /// Keeps so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Makes tokens that were there less likely; 1 does not.
    pub repeat_penalty: f32,
    /// The same seed gives the same text.
    pub seed: u64,
    /// Goes on past the model's own end-of-text tokens.
    pub ignore_eos: bool,
}

/// What an [`OnwardEvent`] tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnwardEventKind {
    /// Nothing has happened in the time that was given.
    None = 0,
    /// Some more of the prompt has been processed: `done` of `total` tokens.
    Prefill = 1,
    /// A token was drawn: `token`, `logprob`, and `text`, which may be empty.
    Token = 2,
    /// The request is done: `finish`, `done` tokens were drawn, and `text` is what was still owed.
    Finished = 3,
    /// The request cannot be served to its end: `text` says why.
    Failed = 4,
}

/// Why a request is done.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnwardFinish {
    /// The model ended the text.
    Stop = 0,
    /// `max_tokens` or the context's end was reached.
    Length = 1,
    /// It was cancelled.
    Cancelled = 2,
}

/// What happened to a request. Fields that the kind does not name are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OnwardEvent {
    /// What it tells.
    pub kind: OnwardEventKind,
    /// Why the request is done.
    pub finish: OnwardFinish,
    /// A token's id.
    pub token: u32,
    /// Its natural log-probability under the model.
    pub logprob: f32,
    /// Tokens that are done.
    pub done: usize,
    /// Tokens in all.
    pub total: usize,
    /// A text that lasts until the next event of this request; never null.
    pub text: *const c_char,
}

/// The sampling that the model's authors recommend, or the usual one, with a seed of 0 and no
/// limit of tokens.
///
/// # Safety
/// `engine` is from [`onward_create`](crate::onward_create), `sampling` a place for the values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onward_default_sampling(
    engine: *const OnwardEngine,
    sampling: *mut OnwardSampling,
) -> OnwardStatus {
    call(|| {
        // SAFETY: by the caller.
        let engine = unsafe { shared("the engine", engine) }?;
        // SAFETY: by the caller.
        let place = unsafe { alone("the place for the sampling", sampling) }?;
        let usual = &engine.service.model().default_sampling;
        *place = OnwardSampling {
            max_tokens: 0,
            temperature: usual.temperature,
            top_p: usual.top_p,
            min_p: usual.min_p,
            top_k: usual.top_k,
            repeat_penalty: usual.repeat_penalty,
            seed: 0,
            ignore_eos: false,
        };
        Ok(())
    })
}

/// Asks for a completion of `prompt`. `sampling` may be null for the usual one. `request` is set to
/// the request, which is to be freed by [`onward_release`], or to null.
///
/// # Safety
/// `engine` is from [`onward_create`](crate::onward_create), `prompt` a text, `sampling` null or
/// values, `request` a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onward_submit(
    engine: *const OnwardEngine,
    prompt: *const c_char,
    sampling: *const OnwardSampling,
    request: *mut *mut OnwardRequest,
) -> OnwardStatus {
    call(|| {
        // SAFETY: by the caller.
        let place = unsafe { alone("the place for the request", request) }?;
        *place = std::ptr::null_mut();
        // SAFETY: by the caller.
        let service = &unsafe { shared("the engine", engine) }?.service;
        // SAFETY: by the caller.
        let prompt = unsafe { text("the prompt", prompt) }?;
        let ids = (service.model().tokenizer).encode(prompt, true);
        let mut request = Request::new(ids.map_err(|error| invalid(error.to_string()))?);
        request.sampling = service.model().default_sampling.clone();
        // SAFETY: by the caller.
        if let Some(sampling) = unsafe { sampling.as_ref() } {
            sampling.apply(&mut request);
        }
        let ticket = service.stream(request).map_err(refused)?;
        *place = Box::into_raw(Box::new(OnwardRequest {
            ticket,
            text: CString::default(),
        }));
        Ok(())
    })
}

/// Waits for the next event of a request, at most `timeout_ms` milliseconds; 0 only looks. After
/// the last one, `ONWARD_STATUS_ENDED` is returned.
///
/// # Safety
/// `request` is from [`onward_submit`], `event` a place for the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onward_poll(
    request: *mut OnwardRequest,
    timeout_ms: u64,
    event: *mut OnwardEvent,
) -> OnwardStatus {
    call(|| {
        // SAFETY: by the caller.
        let request = unsafe { alone("the request", request) }?;
        // SAFETY: by the caller.
        let place = unsafe { alone("the place for the event", event) }?;
        let waited = request.ticket.wait(Duration::from_millis(timeout_ms));
        let update = waited.map_err(|ended| (OnwardStatus::Ended, ended.to_string()))?;
        *place = request.event(update);
        Ok(())
    })
}

/// Ends a request within a step. Its last event, which says so, is still to come.
///
/// # Safety
/// `request` is from [`onward_submit`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onward_cancel(request: *mut OnwardRequest) -> OnwardStatus {
    call(|| {
        // SAFETY: by the caller.
        unsafe { shared("the request", request.cast_const()) }?
            .ticket
            .cancel();
        Ok(())
    })
}

/// Frees a request; one that is not done is cancelled. Null is ignored.
///
/// # Safety
/// `request` is null or from [`onward_submit`], and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn onward_release(request: *mut OnwardRequest) {
    call(|| {
        if !request.is_null() {
            // SAFETY: by the caller it is from a box, and nobody has it any more.
            drop(unsafe { Box::from_raw(request) });
        }
        Ok(())
    });
}

impl OnwardSampling {
    fn apply(&self, request: &mut Request) {
        request.max_tokens = (self.max_tokens > 0).then_some(self.max_tokens);
        request.ignore_eos = self.ignore_eos;
        request.sampling = SamplingParams {
            temperature: self.temperature,
            top_p: self.top_p,
            min_p: self.min_p,
            top_k: self.top_k,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
            ..request.sampling.clone()
        };
    }
}

impl OnwardRequest {
    /// An update as C sees it; its text is kept until the next one.
    fn event(&mut self, update: Option<Update>) -> OnwardEvent {
        let mut event = OnwardEvent {
            kind: OnwardEventKind::None,
            finish: OnwardFinish::Stop,
            token: 0,
            logprob: 0.0,
            done: 0,
            total: 0,
            text: std::ptr::null(),
        };
        let text = match update {
            None => String::new(),
            Some(Update::Event(Event::Prefill { done, total })) => {
                event.kind = OnwardEventKind::Prefill;
                (event.done, event.total) = (done, total);
                String::new()
            }
            Some(Update::Event(Event::Token(token) | Event::PromptToken(token))) => {
                let Token {
                    id, text, logprob, ..
                } = token;
                event.kind = OnwardEventKind::Token;
                (event.token, event.logprob) = (id, logprob);
                text
            }
            Some(Update::Finished(completion)) => {
                let Completion {
                    reason,
                    tail,
                    new_tokens,
                    ..
                } = completion;
                event.kind = OnwardEventKind::Finished;
                event.done = new_tokens;
                event.finish = match reason {
                    FinishReason::Stop => OnwardFinish::Stop,
                    FinishReason::Length => OnwardFinish::Length,
                    FinishReason::Interrupted | FinishReason::TimedOut => OnwardFinish::Cancelled,
                };
                tail
            }
            Some(Update::Failed(error)) => {
                event.kind = OnwardEventKind::Failed;
                error.to_string()
            }
        };
        // A text that holds a zero would end there.
        self.text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        event.text = self.text.as_ptr();
        event
    }
}

fn refused(refusal: Refusal) -> (OnwardStatus, String) {
    let status = match &refusal {
        Refusal::Invalid(_) => OnwardStatus::InvalidRequest,
        Refusal::QueueFull { .. } => OnwardStatus::QueueFull,
        _ => OnwardStatus::EngineFailed,
    };
    (status, refusal.to_string())
}
