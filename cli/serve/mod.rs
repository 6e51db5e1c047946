//! The HTTP server: the API that existing clients speak, in front of the engine's service.
//!
//! ```text
//! connections   sockets, their time limits, their end
//! routes        path → handler; the layers: log, panics, CORS, key
//! body          JSON of bounded size, depth and time → protocol types
//! settings      fields → what the engine is asked; limits name what is too much
//! generations   requests with the engine; dropping them breaks them off
//! respond       updates → one body, or server-sent events
//! completions, chat, template, embeddings, tokens, status, metrics, openapi, page   the routes
//! ```
//!
//! Nothing that a request says is ever opened: no path, no URL.

mod answer;
mod app;
mod auth;
mod body;
mod chat;
mod completions;
mod connections;
mod constraint;
mod conversation;
mod embeddings;
mod fill;
mod generations;
mod limits;
mod logs;
mod messages;
mod metrics;
mod offline;
mod openapi;
mod page;
mod protocol;
mod respond;
mod routes;
mod settings;
mod status;
mod template;
mod tokens;
mod tools;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::runtime;
use tokio::sync::oneshot;

pub(crate) use app::{Loaded, ServerOptions};
pub(crate) use limits::MAX_BODY;
pub(crate) use logs::with_prompts;
pub(crate) use offline::{Answered, Offline};

use app::App;

use crate::interrupt::Scope;
use crate::output::{self, counted};

/// Threads that tokenize and render templates, beside those that wait for sockets.
const MAX_BLOCKING: usize = 16;
/// How often a signal is looked for.
const SIGNAL_POLL: Duration = Duration::from_millis(20);
/// What requests that were broken off have to say so.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until a signal comes, then lets the requests under way end within `shutdown_timeout`.
/// The listener is up before `load` has the model.
///
/// # Errors
/// An address that cannot be listened on; what `load` fails with.
pub(crate) fn run(
    options: ServerOptions,
    host: &str,
    port: u16,
    shutdown_timeout: Duration,
    load: impl FnOnce() -> anyhow::Result<Loaded> + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MAX_BLOCKING)
        .enable_io()
        .enable_time()
        .build()?;
    let app = App::new(options);
    let scope = Scope::open();
    let served = runtime.block_on(serve(&app, host, port, shutdown_timeout, load, &scope));
    // Work that blocks is not waited for.
    runtime.shutdown_background();
    served
}

async fn serve(
    app: &App,
    host: &str,
    port: u16,
    shutdown_timeout: Duration,
    load: impl FnOnce() -> anyhow::Result<Loaded> + Send + 'static,
    scope: &Scope,
) -> anyhow::Result<()> {
    let (listener, address) = connections::listen(host, port).await?;
    announce(app, address);
    let loading = start_loading(app.clone(), load);
    let graceful = GracefulShutdown::new();
    let read_timeout = app.options.read_timeout;
    tokio::select! {
        () = connections::serve(&listener, routes::router(app.clone()), read_timeout, &graceful) => {}
        () = signal(scope) => {}
        error = loading => return Err(error),
    }
    drop(listener);
    end(app, graceful, shutdown_timeout).await;
    Ok(())
}

/// Where it listens is written at once, in one line that a program can read.
fn announce(app: &App, address: SocketAddr) {
    output::note(format_args!("listening on http://{address}"));
    if !address.ip().is_loopback() && app.options.api_key.is_none() {
        tracing::warn!("{address} can be reached from other machines, and no --api-key is set");
    }
}

/// Loads the model on a thread of its own; resolves only if that fails.
async fn start_loading(
    app: App,
    load: impl FnOnce() -> anyhow::Result<Loaded> + Send + 'static,
) -> anyhow::Error {
    let (sender, failure) = oneshot::channel();
    thread::spawn(move || match load() {
        Ok(loaded) => {
            app.set_loaded(loaded);
            tracing::info!(model = app.model_name(), "ready");
        }
        // Whoever would hear it has ended already.
        Err(error) => drop(sender.send(error)),
    });
    match failure.await {
        Ok(error) => error,
        Err(_) => std::future::pending().await,
    }
}

async fn signal(scope: &Scope) {
    while !scope.interrupted() {
        tokio::time::sleep(SIGNAL_POLL).await;
    }
}

/// Takes nothing new, waits for what is under way, and breaks off what takes too long.
async fn end(app: &App, graceful: GracefulShutdown, timeout: Duration) {
    if let Ok(loaded) = app.loaded() {
        loaded.service.drain();
    }
    let n = graceful.count();
    if n > 0 {
        let what = counted(n, "open connection");
        output::note(format_args!(
            "ending: {what}, at most {} s; a second signal ends it at once",
            timeout.as_secs_f64()
        ));
    }
    let mut ended = std::pin::pin!(graceful.shutdown());
    if tokio::time::timeout(timeout, &mut ended).await.is_ok() {
        return;
    }
    tracing::warn!("requests took longer than --shutdown-timeout and are broken off");
    if let Ok(loaded) = app.loaded() {
        loaded.service.cancel_all();
    }
    // What is still open after that waits for its client.
    drop(tokio::time::timeout(FAREWELL, ended).await);
}
