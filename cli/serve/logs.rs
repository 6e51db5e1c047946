//! What is logged: a line a request, without a word of what was said unless asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use onward_tokenizer::Tokenizer;

use super::protocol::error::ErrorCode;

static LOG_PROMPTS: AtomicBool = AtomicBool::new(false);

/// Has prompts logged from now on.
pub(crate) fn with_prompts() {
    LOG_PROMPTS.store(true, Ordering::Relaxed);
}

/// Logs what the model sees, if that is wanted.
pub(crate) fn prompt(tokenizer: &Tokenizer, ids: &[u32]) {
    if LOG_PROMPTS.load(Ordering::Relaxed) {
        let text = tokenizer.decode(ids).unwrap_or_default();
        tracing::info!(n_tokens = ids.len(), ?text, "prompt");
    }
}

/// Logs a request once it is answered, or its answer has begun.
pub(crate) async fn request(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    // A path of no route may be anything that a client wants to see in a log.
    let path: String = request.uri().path().chars().take(80).collect();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let code = response
        .extensions()
        .get::<ErrorCode>()
        .map_or("", |code| code.0);
    let ms = begin.elapsed().as_millis();
    match status {
        500.. => tracing::warn!(%method, ?path, status, code, ms, "request"),
        _ => tracing::info!(%method, ?path, status, code, ms, "request"),
    }
    response
}
