//! Requests of many callers, served together on a thread of its own.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::info::ModelInfo;
use super::request::{Completion, Event, Request};
use crate::error::Error;

/// Serves requests on a thread that owns the engine. Clones share it; when the last is dropped,
/// the requests that were taken are served to their ends.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// How a [`Service`] treats its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Requests that may wait; a further one is refused.
    pub max_queue: usize,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { max_queue: 512 }
    }
}

/// A request's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What a caller hears of its request, in order; the last is [`Update::Finished`] or
/// [`Update::Failed`].
#[derive(Debug)]
pub enum Update {
    /// Something happened.
    Event(Event),
    /// The request is done.
    Finished(Completion),
    /// The request cannot be served to its end.
    Failed(Error),
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It cannot be served as it stands.
    #[error(transparent)]
    Invalid(Error),
    /// Too many wait already.
    #[error("{waiting} requests are waiting already; try again in {} s", retry_after.as_secs().max(1))]
    QueueFull {
        /// How many.
        waiting: usize,
        /// When there may be room.
        retry_after: Duration,
    },
    /// The service takes no more requests, since it is about to end.
    #[error("the service is shutting down")]
    Draining,
    /// The service has failed.
    #[error("the service has failed: {0}")]
    Failed(String),
}

/// Whether a [`Service`] serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ready,
    /// It serves what it has taken, and takes nothing more.
    Draining,
    /// It cannot; why.
    Failed(String),
}

/// Counts and times since a [`Service`] began.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Requests that are being served.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Prompt tokens of the requests served, cached ones included.
    pub prompt_tokens: u64,
    /// Of those, the ones found in the cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
}

type Sink = Box<dyn FnMut(Update) -> ControlFlow<()> + Send>;

struct Shared {
    info: Arc<ModelInfo>,
    options: ServiceOptions,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next_id: u64,
    queue: VecDeque<(RequestId, Request, Sink)>,
    running: Option<RequestId>,
    cancelled: HashSet<RequestId>,
    is_draining: bool,
    failure: Option<String>,
    metrics: Metrics,
}

impl Service {
    /// Starts the thread.
    pub fn start(engine: Engine, options: ServiceOptions) -> Self {
        let shared = Arc::new(Shared {
            info: engine.info().clone(),
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let of_thread = shared.clone();
        std::thread::spawn(move || of_thread.run(engine));
        Self { shared }
    }

    /// What is known of the model.
    pub fn model(&self) -> &ModelInfo {
        &self.shared.info
    }

    /// Takes a request. The sink hears of it on the service's thread, which it must not hold up;
    /// breaking cancels the request.
    ///
    /// # Errors
    /// A [`Refusal`]; the sink then hears nothing.
    pub fn submit(
        &self,
        request: Request,
        sink: impl FnMut(Update) -> ControlFlow<()> + Send + 'static,
    ) -> Result<RequestId, Refusal> {
        self.shared.info.check(&request).map_err(Refusal::Invalid)?;
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(Refusal::Failed(failure.clone()));
        }
        if state.is_draining {
            return Err(Refusal::Draining);
        }
        if state.queue.len() >= self.shared.options.max_queue {
            return Err(Refusal::QueueFull {
                waiting: state.queue.len(),
                retry_after: Duration::from_secs(1),
            });
        }
        let id = RequestId(state.next_id);
        state.next_id += 1;
        state.queue.push_back((id, request, Box::new(sink)));
        self.shared.changed.notify_all();
        Ok(id)
    }

    /// Ends a request within a step, if it is not done yet.
    pub fn cancel(&self, id: RequestId) {
        self.shared.lock().cancelled.insert(id);
    }

    /// Counts and times up to now.
    pub fn metrics(&self) -> Metrics {
        let state = self.shared.lock();
        Metrics {
            running: usize::from(state.running.is_some()),
            waiting: state.queue.len(),
            ..state.metrics.clone()
        }
    }

    /// Refuses requests from now on.
    pub fn drain(&self) {
        self.shared.lock().is_draining = true;
    }

    /// Waits until nothing is left to serve; false where that takes longer than `timeout`.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while state.running.is_some() || !state.queue.is_empty() {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return false;
            };
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether it serves.
    pub fn health(&self) -> Health {
        let state = self.shared.lock();
        match &state.failure {
            Some(failure) => Health::Failed(failure.clone()),
            None if state.is_draining => Health::Draining,
            None => Health::Ready,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves request after request.
    fn run(self: &Arc<Self>, mut engine: Engine) {
        while let Some((id, request, mut sink)) = self.next() {
            let mut session = engine.session();
            let mut on_event = |event| match self.lock().cancelled.remove(&id) {
                true => ControlFlow::Break(()),
                false => sink(Update::Event(event)),
            };
            let served = engine.generate(&mut session, &request, &mut on_event);
            let mut state = self.lock();
            state.running = None;
            state.cancelled.remove(&id);
            if let Ok(completion) = &served {
                state.metrics.prompt_tokens += completion.prompt_tokens as u64;
                state.metrics.cached_tokens += completion.cached_tokens as u64;
                state.metrics.generated_tokens += completion.new_tokens as u64;
            }
            drop(state);
            // Whether it wants to hear more does not matter any more.
            let _ = sink(match served {
                Ok(completion) => Update::Finished(completion),
                Err(error) => Update::Failed(error),
            });
            self.changed.notify_all();
        }
    }

    /// The next request, once there is one; none where nobody is left to send any.
    fn next(self: &Arc<Self>) -> Option<(RequestId, Request, Sink)> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.queue.pop_front() {
                state.running = Some(next.0);
                return Some(next);
            }
            if Arc::strong_count(self) == 1 {
                return None;
            }
            let waited = self.changed.wait_timeout(state, Duration::from_secs(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
