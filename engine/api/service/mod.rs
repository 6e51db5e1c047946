//! Requests of many callers, served together on a thread of its own.

use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod thread;

use super::engine::Engine;
use super::info::ModelInfo;
use super::metrics::Metrics;
use super::request::{Completion, Event, Request};
use crate::error::Error;
use crate::sample::Guide;

/// Serves requests on a thread that owns the engine. Clones share it; when the last is dropped,
/// the requests that were taken are served to their ends, and an idle engine is given back at once.
#[derive(Clone)]
pub struct Service {
    handle: Arc<Handle>,
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
    #[error("{waiting} requests are waiting already; try again in {} s", retry_after.as_secs())]
    QueueFull {
        /// How many.
        waiting: usize,
        /// When there may be room, in whole seconds.
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
    /// Its engine has failed and is being loaded again; requests wait.
    Restarting,
    /// It cannot; why.
    Failed(String),
}

type Sink = Box<dyn FnMut(Update) -> ControlFlow<()> + Send>;
type Reload = Box<dyn FnMut() -> Result<Engine, Error> + Send>;
type Done = Box<dyn FnOnce(Result<Vec<f32>, Error>) + Send>;

/// How long an idle engine may take to give its device back.
const FAREWELL: Duration = Duration::from_secs(10);

/// The last one to go tells the thread.
struct Handle {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Drop for Handle {
    /// Waits for an idle engine to be gone: a process that ends meanwhile would take the driver away
    /// from under it. Requests under way are not waited for, nor is a device that does not answer.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        let is_idle = state.n_open == 0;
        drop(state);
        self.shared.changed.notify_all();
        let end = Instant::now() + FAREWELL;
        let is_elsewhere = self.thread.thread().id() != std::thread::current().id();
        while is_idle && is_elsewhere && !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Shared {
    info: Arc<ModelInfo>,
    options: ServiceOptions,
    /// Requests that are served at once.
    slots: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next_id: u64,
    commands: Vec<Command>,
    /// Requests among the commands.
    n_new: usize,
    /// Requests that were taken and have not ended.
    n_open: usize,
    /// Whether requests are being served, or wait for it.
    is_busy: bool,
    is_draining: bool,
    is_closed: bool,
    is_restarting: bool,
    n_restarts: u64,
    failure: Option<String>,
    metrics: Metrics,
}

/// What callers want of the thread.
enum Command {
    Serve(RequestId, Box<Job>),
    Embed(Vec<u32>, Done),
    Cancel(RequestId),
    CancelAll,
}

/// A request that was checked.
struct Job {
    request: Request,
    guide: Option<Guide>,
    asked: Instant,
    sink: Sink,
}

impl Service {
    /// Starts the thread. Where the device fails, the service does.
    pub fn start(engine: Engine, options: ServiceOptions) -> Self {
        Self::begin(engine, options, None)
    }

    /// As [`start`](Self::start); where the device fails, whoever is served hears of it, and
    /// `reload` makes another engine of the same model for those that wait. Should that one fail
    /// before it has served anybody, the service does.
    pub fn restarting(
        engine: Engine,
        options: ServiceOptions,
        reload: impl FnMut() -> Result<Engine, Error> + Send + 'static,
    ) -> Self {
        Self::begin(engine, options, Some(Box::new(reload)))
    }

    fn begin(engine: Engine, options: ServiceOptions, reload: Option<Reload>) -> Self {
        let shared = Arc::new(Shared {
            info: engine.info().clone(),
            options,
            slots: engine.n_sequences(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || of_thread.run(engine, reload));
        Self {
            handle: Arc::new(Handle { shared, thread }),
        }
    }

    /// What is known of the model.
    pub fn model(&self) -> &ModelInfo {
        &self.shared().info
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
        let asked = Instant::now();
        let info = &self.shared().info;
        info.check(&request).map_err(Refusal::Invalid)?;
        // A full queue is to cost nothing: grammars are compiled for those who get in.
        self.shared().admit(&self.shared().lock())?;
        let guide = info.guide(&request).map_err(Refusal::Invalid)?;
        let job = Job {
            request,
            guide,
            asked,
            sink: Box::new(sink),
        };
        let mut state = self.shared().lock();
        self.shared().admit(&state)?;
        let id = RequestId(state.next_id);
        state.next_id += 1;
        state.n_new += 1;
        state.n_open += 1;
        self.shared().send(state, Command::Serve(id, Box::new(job)));
        Ok(id)
    }

    /// As [`submit`](Self::submit), for a caller that asks for the updates when it wants them.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn stream(&self, request: Request) -> Result<Ticket, Refusal> {
        let (sender, updates) = mpsc::channel();
        let sink = move |update| match sender.send(update) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        Ok(Ticket {
            id: self.submit(request, sink)?,
            service: self.clone(),
            updates,
        })
    }

    /// Computes a text's vector: the direction of its mean hidden state, of length 1.
    ///
    /// # Errors
    /// A [`Refusal`]; `done` then hears nothing.
    pub fn embed(
        &self,
        ids: Vec<u32>,
        done: impl FnOnce(Result<Vec<f32>, Error>) + Send + 'static,
    ) -> Result<(), Refusal> {
        let info = &self.shared().info;
        let checked = info.check_ids(&ids);
        let checked = checked.and_then(|()| info.check_room("the text", ids.len()));
        checked.map_err(Refusal::Invalid)?;
        let mut state = self.shared().lock();
        self.shared().admit(&state)?;
        state.n_new += 1;
        state.n_open += 1;
        self.shared()
            .send(state, Command::Embed(ids, Box::new(done)));
        Ok(())
    }

    /// Ends a request within a step, if it is not done yet.
    pub fn cancel(&self, id: RequestId) {
        self.shared()
            .send(self.shared().lock(), Command::Cancel(id));
    }

    /// Ends all requests within a step.
    pub fn cancel_all(&self) {
        self.shared().send(self.shared().lock(), Command::CancelAll);
    }

    /// Counts and times up to now.
    pub fn metrics(&self) -> Metrics {
        let state = self.shared().lock();
        let mut metrics = state.metrics.clone();
        metrics.waiting += state.n_new;
        metrics
    }

    /// Refuses requests from now on.
    pub fn drain(&self) {
        self.shared().lock().is_draining = true;
    }

    /// Waits until nothing is left to serve; false where that takes longer than `timeout`.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut state = self.shared().lock();
        while state.is_busy || state.n_open > 0 {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return false;
            };
            let waited = self.shared().changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether it serves.
    pub fn health(&self) -> Health {
        let state = self.shared().lock();
        match &state.failure {
            Some(failure) => Health::Failed(failure.clone()),
            None if state.is_draining => Health::Draining,
            None if state.is_restarting => Health::Restarting,
            None => Health::Ready,
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

/// The updates of a request that was taken. Dropping it cancels the request.
pub struct Ticket {
    id: RequestId,
    service: Service,
    updates: Receiver<Update>,
}

impl Ticket {
    /// The request's number.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The next update, if it comes within `timeout`; zero only looks.
    ///
    /// # Errors
    /// [`Ended`] where nothing more will come.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Update>, Ended> {
        match self.updates.recv_timeout(timeout) {
            Ok(update) => Ok(Some(update)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }

    /// Ends the request within a step; its last update is still to come.
    pub fn cancel(&self) {
        self.service.cancel(self.id);
    }
}

/// The last update of a [`Ticket`] has been given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request has ended")]
pub struct Ended;

/// Waits for each update.
impl Iterator for Ticket {
    type Item = Update;

    fn next(&mut self) -> Option<Update> {
        self.updates.recv().ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.service.cancel(self.id);
    }
}
