//! The thread that owns the engine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::{Command, Done, Job, Refusal, Reload, RequestId, Shared, State};
use crate::api::{Engine, Metrics, Update};
use crate::decode::{Batching, Pooling, Transcript};
use crate::error::Error;
use crate::schedule::Id;

/// A caller who was refused is not told to come back sooner.
const LEAST_WAIT: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a further request is taken now.
    pub(super) fn admit(&self, state: &State) -> Result<(), Refusal> {
        if let Some(failure) = &state.failure {
            return Err(Refusal::Failed(failure.clone()));
        }
        if state.is_draining {
            return Err(Refusal::Draining);
        }
        let waiting = state.n_open.saturating_sub(self.slots);
        if state.n_open >= self.options.max_queue + self.slots {
            return Err(Refusal::QueueFull {
                waiting,
                // There is room as soon as one has ended.
                retry_after: state.metrics.departure_interval.max(LEAST_WAIT),
            });
        }
        Ok(())
    }

    pub(super) fn send(&self, mut state: MutexGuard<'_, State>, command: Command) {
        // A failed service has nobody to read it, and its requests have ended.
        if state.failure.is_none() {
            state.commands.push(command);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Serves until nobody can ask any more. An engine that fails is loaded again where that is
    /// wanted, unless it has served nothing since it was.
    pub(super) fn run(&self, mut engine: Engine, mut reload: Option<Reload>) {
        while let Err(error) = self.serve(&mut engine) {
            let mut failure = error.to_string();
            tracing::error!("the engine has failed: {failure}");
            // Its memory comes back before another one takes as much.
            drop(engine);
            let mut state = self.lock();
            let is_useful = state.metrics.finished > 0;
            state.n_restarts += 1;
            state.is_restarting = true;
            drop(state);
            let again = reload.as_mut().filter(|_| is_useful).map(|reload| reload());
            match again {
                Some(Ok(loaded)) => {
                    engine = loaded;
                    self.lock().is_restarting = false;
                    continue;
                }
                Some(Err(error)) => failure += &format!("; and it cannot be loaded again: {error}"),
                None => {}
            }
            return self.give_up(&failure);
        }
    }

    /// Tells everybody that nothing will be served any more.
    fn give_up(&self, failure: &str) {
        let mut state = self.lock();
        state.is_busy = false;
        state.is_restarting = false;
        state.n_new = 0;
        state.n_open = 0;
        state.failure = Some(failure.to_owned());
        let commands = std::mem::take(&mut state.commands);
        drop(state);
        for command in commands {
            match command {
                Command::Serve(_, mut job) => {
                    let _ = (job.sink)(Update::Failed(Error::Failed(failure.to_owned())));
                }
                Command::Embed(_, done) => done(Err(Error::Failed(failure.to_owned()))),
                Command::Cancel(_) | Command::CancelAll => {}
            }
        }
        self.changed.notify_all();
    }

    fn serve(&self, engine: &mut Engine) -> Result<(), Error> {
        let gone = RefCell::default();
        let (runner, scheduler) = (engine.runner.as_mut(), &mut engine.scheduler);
        let mut desk = Desk {
            shared: self,
            gone: &gone,
            ids: HashMap::new(),
            batching: Batching::new(&self.info, runner, scheduler),
        };
        while let Some(commands) = self.next(&desk.batching) {
            let turn = || {
                for command in commands {
                    desk.obey(command);
                }
                desk.batching.turn()
            };
            let panicked = |_| Err(Error::Failed("the engine has panicked".to_owned()));
            if let Err(error) = catch_unwind(AssertUnwindSafe(turn)).unwrap_or_else(panicked) {
                desk.batching.fail_all(&error.to_string());
                self.lock().metrics = desk.batching.metrics();
                return Err(error);
            }
            for id in gone.borrow_mut().drain(..) {
                desk.ids.remove(&id);
            }
        }
        Ok(())
    }

    /// What callers want by now; waits for it where there is nothing else to do. None where
    /// nobody can want anything any more.
    fn next(&self, batching: &Batching<'_>) -> Option<Vec<Command>> {
        let mut state = self.lock();
        state.metrics = Metrics {
            restarts: state.n_restarts,
            ..batching.metrics()
        };
        state.is_busy = !batching.is_idle();
        if !state.is_busy {
            self.changed.notify_all();
        }
        while batching.is_idle() && state.commands.is_empty() {
            if state.is_closed {
                return None;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.is_busy = true;
        state.n_new = 0;
        Some(std::mem::take(&mut state.commands))
    }
}

/// Where the thread takes what callers want.
struct Desk<'m> {
    shared: &'m Shared,
    /// Requests that have ended since the last turn.
    gone: &'m RefCell<Vec<RequestId>>,
    ids: HashMap<RequestId, Id>,
    batching: Batching<'m>,
}

impl Desk<'_> {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Serve(id, job) => self.serve(id, *job),
            Command::Embed(ids, done) => {
                let pooling =
                    Pooling::new(self.shared.info.config.width, guarded(self.shared, done));
                self.batching.embed(ids, pooling);
            }
            Command::Cancel(id) => {
                if let Some(&id) = self.ids.get(&id) {
                    self.batching.cancel(id);
                }
            }
            Command::CancelAll => self.batching.cancel_all(),
        }
    }

    fn serve(&mut self, id: RequestId, job: Job) {
        let Job {
            request,
            guide,
            asked,
            mut sink,
        } = job;
        let (gone, shared) = (self.gone, self.shared);
        // A caller's panic is its own: it hears no more, and nobody else is harmed.
        let sink = move |update: Update| {
            if !matches!(update, Update::Event(_)) {
                gone.borrow_mut().push(id);
                shared.lock().n_open -= 1;
            }
            catch_unwind(AssertUnwindSafe(|| sink(update))).unwrap_or(ControlFlow::Break(()))
        };
        let transcript = Transcript::new(request, guide, asked, &self.shared.info);
        if let Some(number) = self.batching.submit(transcript, Box::new(sink)) {
            self.ids.insert(id, number);
        }
    }
}

/// What was drawn up by a caller, so that its panic harms nobody else.
fn guarded(shared: &Shared, done: Done) -> Box<dyn FnOnce(Result<Vec<f32>, Error>) + '_> {
    Box::new(move |vector| {
        shared.lock().n_open -= 1;
        let _ = catch_unwind(AssertUnwindSafe(|| done(vector)));
    })
}
