//! The engine: one model on one device, serving requests.

use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Instant;

use onward_kernels::memory::MemoryPlan;
use onward_kernels::ops::sample::SamplingParams;
use onward_tokenizer::{ChatTemplate, Tokenizer};

use super::info::ModelInfo;
use super::request::{Completion, Event, Request};
use super::service::Update;
use crate::decode::{Batching, Pooling, Transcript};
use crate::error::{Error, Result};
use crate::model::{ModelConfig, Runner};
use crate::schedule::Scheduler;

/// A loaded model, ready to generate.
///
/// What was computed stays in the cache as long as there is room: a prompt that begins like an
/// earlier text only costs what is new.
pub struct Engine {
    pub(super) runner: Box<dyn Runner>,
    pub(super) info: Arc<ModelInfo>,
    pub(super) scheduler: Scheduler,
    pub(super) memory: MemoryPlan,
}

impl Engine {
    /// What is known of the model; it may be kept apart from the engine.
    pub fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.info.config
    }

    /// The model's vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.info.tokenizer
    }

    /// How the model wants conversations written, if its file says.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.info.chat_template.as_ref()
    }

    /// The sampling the model's authors recommend, or the usual one.
    pub fn default_sampling(&self) -> &SamplingParams {
        &self.info.default_sampling
    }

    /// Positions a sequence may reach.
    pub fn n_ctx(&self) -> usize {
        self.info.n_ctx
    }

    /// Sequences that are served at once.
    pub fn n_sequences(&self) -> usize {
        self.scheduler.limits().n_slots
    }

    /// Memory taken, as it was planned.
    pub fn memory(&self) -> MemoryPlan {
        self.memory
    }

    /// Forgets what was computed for earlier requests.
    pub fn forget(&mut self) {
        let n_pages = self.scheduler.counters().pages;
        self.scheduler = Scheduler::new(*self.scheduler.limits(), n_pages);
    }

    /// Serves one request. The listener hears of every event and breaks to interrupt.
    ///
    /// # Errors
    /// A request that cannot be served ([`Error::Request`], [`Error::ContextFull`]), or a
    /// failing device.
    pub fn generate(
        &mut self,
        request: &Request,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Completion> {
        let requests = std::slice::from_ref(request);
        let mut completions = self.generate_batch(requests, &mut |_, event| on_event(event))?;
        completions.pop().ok_or_else(no_outcome)
    }

    /// Serves many requests, as many at once as the engine has sequences. The listener hears
    /// each event with its request's index; breaking interrupts that request alone. A request's
    /// tokens do not depend on the others.
    ///
    /// # Errors
    /// As [`Engine::generate`]; nothing is started if one request cannot be served.
    pub fn generate_batch(
        &mut self,
        requests: &[Request],
        on_event: &mut dyn FnMut(usize, Event) -> ControlFlow<()>,
    ) -> Result<Vec<Completion>> {
        let asked = Instant::now();
        let info = self.info.clone();
        let mut transcripts = Vec::with_capacity(requests.len());
        for request in requests {
            info.check(request)?;
            let guide = info.guide(request)?;
            transcripts.push(Transcript::new(request.clone(), guide, asked, &info));
        }
        let on_event = RefCell::new(on_event);
        let outcomes: Vec<_> = requests.iter().map(|_| RefCell::new(None)).collect();
        let mut batching = Batching::new(&info, self.runner.as_mut(), &mut self.scheduler);
        for (index, transcript) in transcripts.into_iter().enumerate() {
            let (outcome, on_event) = (&outcomes[index], &on_event);
            let sink = move |update| match update {
                Update::Event(event) => on_event.borrow_mut()(index, event),
                Update::Finished(completion) => settled(outcome, Ok(completion)),
                Update::Failed(error) => settled(outcome, Err(error)),
            };
            batching.submit(transcript, Box::new(sink));
        }
        while !batching.is_idle() {
            batching.turn()?;
        }
        drop(batching);
        let outcomes = outcomes.into_iter().map(RefCell::into_inner);
        outcomes
            .map(|outcome| outcome.ok_or_else(no_outcome)?)
            .collect()
    }

    /// The text as a vector of length 1: the direction of its mean hidden state.
    ///
    /// # Errors
    /// Ids beyond the vocabulary, a text longer than the context, or a failing device.
    pub fn embed(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.info.check_ids(ids)?;
        self.info.check_room("the text", ids.len())?;
        let told = RefCell::new(None);
        let done = |vector| {
            told.replace(Some(vector));
        };
        let pooling = Pooling::new(self.info.config.width, Box::new(done));
        let mut batching = Batching::new(&self.info, self.runner.as_mut(), &mut self.scheduler);
        batching.embed(ids.to_vec(), pooling);
        while !batching.is_idle() {
            batching.turn()?;
        }
        drop(batching);
        told.into_inner().ok_or_else(no_outcome)?
    }

    /// Runs the model over a text and hands the logits that follow each position in `positions`
    /// to the listener, in order; it breaks to end early.
    ///
    /// # Errors
    /// Ids beyond the vocabulary, a text longer than the context, or a failing device.
    pub fn evaluate(
        &mut self,
        ids: &[u32],
        positions: Range<usize>,
        on_logits: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.info.check_ids(ids)?;
        self.info.check_room("the text", ids.len())?;
        let mut batching = Batching::new(&self.info, self.runner.as_mut(), &mut self.scheduler);
        let on_logits = Box::new(on_logits);
        if batching
            .evaluate(ids.to_vec(), positions, on_logits)
            .is_none()
        {
            return Err(Error::Request(
                "the cache is too small for the text".to_owned(),
            ));
        }
        while !batching.is_idle() {
            batching.turn()?;
        }
        Ok(())
    }
}

fn settled(
    outcome: &RefCell<Option<Result<Completion>>>,
    with: Result<Completion>,
) -> ControlFlow<()> {
    outcome.replace(Some(with));
    ControlFlow::Continue(())
}

fn no_outcome() -> Error {
    Error::Failed("a request came to no end".to_owned())
}
