//! The listener: connections, their time limits, and how they end.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at a time; further ones wait to be taken.
const MAX_CONNECTIONS: usize = 1024;
/// Bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// After a failure to take a connection, as when too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on the first address of `host` that is free.
///
/// # Errors
/// A host that is not known, or an address that is taken.
pub(crate) async fn listen(host: &str, port: u16) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let addresses: Vec<_> = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("the host {host} is not known"))?
        .collect();
    let listener = TcpListener::bind(&addresses[..])
        .await
        .with_context(|| format!("cannot listen on {host} port {port}"))?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    Ok((listener, address))
}

/// Serves connections until it is dropped; `graceful` then tells them to end.
pub(crate) async fn serve(
    listener: &TcpListener,
    router: Router,
    read_timeout: Duration,
    graceful: &GracefulShutdown,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(read_timeout)
        .max_buf_size(MAX_HEADER_BYTES);
    loop {
        // It is never closed.
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        prepare(&stream);
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
}

/// Tokens are small and must not wait for more.
fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("a connection has no TCP_NODELAY: {error}");
    }
}
