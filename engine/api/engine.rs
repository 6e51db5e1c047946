//! The engine: one model on one device, serving requests.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use onward_kernels::Batch;
use onward_kernels::memory::MemoryPlan;
use onward_kernels::ops::sample::SamplingParams;
use onward_tokenizer::{ChatTemplate, Tokenizer};

use super::info::ModelInfo;
use super::memory::LOGIT_ROWS;
use super::request::{Completion, Event, Request};
use crate::decode::{Context, Generation, Rounds, Session};
use crate::error::Result;
use crate::kv::PagePool;
use crate::model::{ModelConfig, Runner};

/// A loaded model, ready to generate.
pub struct Engine {
    pub(super) runner: Box<dyn Runner>,
    pub(super) info: Arc<ModelInfo>,
    pub(super) pages: PagePool,
    pub(super) n_sequences: usize,
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

    /// Memory taken, as it was planned.
    pub fn memory(&self) -> MemoryPlan {
        self.memory
    }

    /// An empty sequence.
    pub fn session(&self) -> Session {
        Session::new(&self.pages)
    }

    /// Serves one request, going on from what `session` has in common with its prompt. The
    /// listener hears of every event and breaks to interrupt.
    ///
    /// # Errors
    /// A request that cannot be served ([`Error::Request`], [`Error::ContextFull`]), or a
    /// failing device. What was computed before stays in the session.
    pub fn generate(
        &mut self,
        session: &mut Session,
        request: &Request,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Completion> {
        self.info.check(request)?;
        let (context, runner) = self.parts();
        let mut lane = [Generation::new(request, session, context)];
        Rounds::new(runner).run(&mut lane, &mut |_, event| on_event(event))?;
        let [generation] = lane;
        Ok(generation.complete())
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
        for request in requests {
            self.info.check(request)?;
        }
        let mut completions = Vec::with_capacity(requests.len());
        for (group, requests) in requests.chunks(self.n_sequences).enumerate() {
            let first = group * self.n_sequences;
            let mut sessions: Vec<_> = requests.iter().map(|_| self.session()).collect();
            let (context, runner) = self.parts();
            let mut lanes: Vec<_> = requests
                .iter()
                .zip(&mut sessions)
                .map(|(request, session)| Generation::new(request, session, context))
                .collect();
            let mut on_event = |lane, event| on_event(first + lane, event);
            Rounds::new(runner).run(&mut lanes, &mut on_event)?;
            completions.extend(lanes.into_iter().map(Generation::complete));
        }
        Ok(completions)
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
        let mut session = self.session();
        for chunk in ids.chunks(self.runner.max_rows()) {
            let first = session.tokens().len();
            let mut batch = Batch::default();
            batch.push(chunk, first, session.reserve(chunk.len())?);
            self.runner.forward(&batch)?;
            session.commit(chunk);
            let wanted: Vec<_> = (0..chunk.len())
                .filter(|row| positions.contains(&(first + row)))
                .collect();
            for rows in wanted.chunks(LOGIT_ROWS) {
                let logits = self.runner.logits(rows)?;
                for (&row, logits) in rows.iter().zip(logits.chunks(self.info.config.vocab_size)) {
                    if on_logits(first + row, logits).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn parts(&mut self) -> (Context<'_>, &mut dyn Runner) {
        let context = Context {
            tokenizer: &self.info.tokenizer,
            stop_ids: &self.info.stop_ids,
            n_ctx: self.info.n_ctx,
        };
        (context, self.runner.as_mut())
    }
}
