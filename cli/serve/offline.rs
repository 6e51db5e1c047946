//! Requests from a file instead of from sockets: the same routes, asked within the process.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::app::{App, Loaded, ServerOptions};
use super::routes;

/// The server without its sockets.
pub(crate) struct Offline {
    routes: TowerToHyperService<Router>,
}

/// What a route answered.
pub(crate) struct Answered {
    /// The status of HTTP.
    pub(crate) status: u16,
    /// The JSON that came with it.
    pub(crate) body: Value,
}

impl Offline {
    /// A server of a model that is loaded.
    pub(crate) fn new(options: ServerOptions, loaded: Loaded) -> Self {
        let app = App::new(options);
        app.set_loaded(loaded);
        Self {
            routes: TowerToHyperService::new(routes::router(app)),
        }
    }

    /// Posts `body` to `path`. Dropping the future breaks the request off.
    ///
    /// # Errors
    /// An answer that breaks off or is no JSON, which is a fault of the server.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answered> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))?;
        let answer = self.routes.call(request).await?;
        let status = answer.status().as_u16();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await?;
        Ok(Answered {
            status,
            body: serde_json::from_slice(&bytes)?,
        })
    }
}
