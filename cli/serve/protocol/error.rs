//! Errors as OpenAI's API writes them: a status and `{"error":{message,type,param,code}}`.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use onward_engine::{Error, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

/// The most characters of a message: it may quote what a client sent.
const MAX_MESSAGE: usize = 400;

/// Why a request was not served.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    body: ErrorBody,
    retry_after: Option<Duration>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// One sentence.
    message: String,
    /// The kind of error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field of the request that is wrong.
    param: Option<String>,
    /// A name of the error that does not change.
    code: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let error = ErrorDetail {
            message: shortened(message.into()),
            kind,
            param: None,
            code: Some(code),
        };
        Self {
            status,
            body: ErrorBody { error },
            retry_after: None,
        }
    }

    /// A request that cannot be served as it stands.
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            code,
            message,
        )
    }

    /// A field whose value cannot be used.
    pub(crate) fn field(param: &str, message: impl Into<String>) -> Self {
        Self::invalid("invalid_value", message).naming(param)
    }

    /// A field beyond a limit, which `code` names.
    pub(crate) fn limit(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self::invalid(code, message).naming(param)
    }

    /// A fault of the server.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "server_error", "internal_error", message)
    }

    /// A server that cannot serve now.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable_error", code, message)
    }

    /// A request whose time was over before it was done.
    pub(crate) fn timed_out() -> Self {
        let message = "the request took longer than the server's --timeout";
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout_error",
            "timeout",
            message,
        )
    }

    /// The same, about a field of the request.
    pub(crate) fn naming(mut self, param: &str) -> Self {
        self.body.error.param = Some(shortened(param.to_owned()));
        self
    }

    /// The same, with a time after which to try again.
    pub(crate) fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// The body, for an `error` event of a stream that has begun.
    pub(crate) fn body(&self) -> &ErrorBody {
        &self.body
    }

    /// The name of the error.
    pub(crate) fn code(&self) -> &'static str {
        self.body.error.code.unwrap_or_default()
    }

    /// A request that the engine refused; `param` is the field that has the prompt.
    pub(crate) fn refused(refusal: Refusal, param: &str) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Invalid(error) => Self::of_engine(&error, param),
            Refusal::QueueFull { retry_after, .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, "rate_limit_error", "queue_full", message)
                    .retry_after(retry_after)
            }
            Refusal::Draining => Self::unavailable("shutting_down", message),
            _ => Self::unavailable("engine_failed", message),
        }
    }

    /// A request that the engine could not serve to its end.
    pub(crate) fn of_engine(error: &Error, param: &str) -> Self {
        let message = error.to_string();
        match error {
            Error::ContextFull { .. } => Self::limit("context_length_exceeded", param, message),
            Error::Request(_) | Error::Tokenizer(_) => Self::field(param, message),
            Error::Failed(_) => Self::unavailable("engine_failed", message),
            _ => Self::internal(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            let seconds = time.as_secs().max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response.extensions_mut().insert(ErrorCode(self.code()));
        response
    }
}

/// The name of the error that a response carries, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_quotes_much_is_cut_between_characters() {
        let error = ApiError::field("x", "é".repeat(1000));
        assert_eq!(error.body.error.message.chars().count(), MAX_MESSAGE + 1);
    }

    #[test]
    fn refusals_have_the_status_that_clients_act_on() {
        let full = Refusal::QueueFull {
            waiting: 3,
            retry_after: Duration::from_millis(200),
        };
        let response = ApiError::refused(full, "prompt").into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let long = Refusal::Invalid(Error::ContextFull {
            what: "the prompt",
            needed: 9,
            n_ctx: 8,
        });
        let error = ApiError::refused(long, "messages");
        assert_eq!(error.code(), "context_length_exceeded");
        assert_eq!(error.body.error.param.as_deref(), Some("messages"));
        let draining = ApiError::refused(Refusal::Draining, "prompt");
        assert_eq!(draining.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
