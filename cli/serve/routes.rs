//! Which path leads where, and what every request passes through.

use std::any::Any;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::app::App;
use super::protocol::error::ApiError;
use super::{
    auth, chat, completions, embeddings, logs, metrics, openapi, page, status, template, tokens,
};

/// The whole server.
pub(crate) fn router(app: App) -> Router {
    let routes = Router::new()
        .route("/health", get(status::health))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(template::apply_template))
        .route("/props", get(status::props))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{*name}", get(status::model))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), auth::check))
        .merge(page::routes());
    // A browser asks whether it may before it has the key.
    let routes = match app.options.cors_origins.is_empty() {
        true => routes,
        false => routes.layer(auth::cors(&app.options.cors_origins)),
    };
    routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(logs::request))
        .with_state(app)
}

async fn no_route() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "invalid_request_error",
        "not_found",
        "there is nothing at this path: /openapi.json lists what there is",
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        "method_not_allowed",
        "this path is not served with this method: /openapi.json lists what is",
    )
}

/// A panic ends its own request alone; the panic's hook has written what it was.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal("an internal error; the server's log has more").into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn planted() -> &'static str {
        panic!("planted");
    }

    #[test]
    fn a_panic_ends_its_own_request_alone() {
        let routes = Router::new()
            .route("/panic", get(planted))
            .route("/", get(async || "well"))
            .layer(CatchPanicLayer::custom(panicked));
        let service = TowerToHyperService::new(routes);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let status = |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty());
            let answer = service.call(request.expect("a request"));
            runtime.block_on(answer).expect("an answer").status()
        };
        assert_eq!(status("/panic"), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status("/"), StatusCode::OK);
    }
}
