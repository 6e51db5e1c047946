//! Reading a request's body: JSON of bounded size, depth and time.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::app::App;
use super::protocol::error::ApiError;

/// A request's body, a JSON object.
#[derive(Debug)]
pub(crate) struct JsonBody(Value);

impl JsonBody {
    /// Reads the fields of `T`; what else there is does not matter.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        serde_path_to_error::deserialize(&self.0).map_err(|error| {
            let path = error.path().to_string();
            wrong_field(&path, &error.into_inner().to_string())
        })
    }
}

impl FromRequest<App> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_headers(&parts.headers, app.options.max_body)?;
        let bytes = read(body, app.options.max_body, app.options.read_timeout).await?;
        parse(&bytes)
    }
}

/// A browser sends a form to any server without asking; JSON it sends only where it may.
fn check_headers(headers: &HeaderMap, max_body: usize) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            "unsupported_media_type",
            "the body must be JSON: send it with Content-Type: application/json",
        ));
    }
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match length.is_some_and(|length| length > max_body as u64) {
        true => Err(too_large(max_body)),
        false => Ok(()),
    }
}

async fn read(body: Body, limit: usize, time: Duration) -> Result<axum::body::Bytes, ApiError> {
    match tokio::time::timeout(time, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large(limit)),
        Ok(Err(_)) => Err(ApiError::invalid(
            "incomplete_body",
            "the body ended before its length was reached",
        )),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            "body_timeout",
            format!("the body did not arrive within {} s", time.as_secs_f64()),
        )),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.to_string().contains("length limit"))
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "invalid_request_error",
        "body_too_large",
        format!("the body is longer than {limit} bytes"),
    )
}

/// Reads JSON, which nests at most 127 levels deep.
fn parse(bytes: &[u8]) -> Result<JsonBody, ApiError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let message = error.to_string();
        match message.starts_with("recursion limit") {
            true => ApiError::invalid("json_too_deep", "the body nests more than 127 levels deep"),
            false => ApiError::invalid("invalid_json", format!("the body is no JSON: {message}")),
        }
    })?;
    match value.is_object() {
        true => Ok(JsonBody(value)),
        false => Err(ApiError::invalid(
            "invalid_json",
            "the body must be a JSON object",
        )),
    }
}

/// `path` is where reading stopped, `.` for the object itself.
fn wrong_field(path: &str, message: &str) -> ApiError {
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    match missing {
        Some(name) if path == "." => {
            let message = format!("the field {name} is missing");
            ApiError::invalid("missing_field", message).naming(name)
        }
        Some(name) => {
            let message = format!("the field {path}.{name} is missing");
            ApiError::invalid("missing_field", message).naming(&format!("{path}.{name}"))
        }
        None => ApiError::invalid("invalid_type", format!("{path}: {message}")).naming(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Fields {
        #[allow(dead_code, reason = "only whether it can be read matters")]
        x: f32,
    }

    fn code(text: &str) -> &'static str {
        match parse(text.as_bytes()).and_then(|body| body.read::<Fields>().map(drop)) {
            Ok(()) => "",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn a_body_is_an_object_with_fields_of_the_right_types() {
        assert_eq!(code(r#"{"x": 1, "unknown": []}"#), "");
        assert_eq!(code(r#"{"x": "1"}"#), "invalid_type");
        assert_eq!(code("{}"), "missing_field");
        assert_eq!(code("[]"), "invalid_json");
        assert_eq!(code("{"), "invalid_json");
        assert_eq!(code(&"[".repeat(200)), "json_too_deep");
        let nested = |n: usize| format!("{{\"x\":1,\"y\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert_eq!(code(&nested(100)), "");
        assert_eq!(code(&nested(127)), "json_too_deep");
    }
}
