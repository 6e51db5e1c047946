//! The key that a server may ask for, and the pages that may use it.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::app::App;
use super::protocol::error::ApiError;

/// The one route that is served without the key: what asks it is a supervisor.
const HEALTH: &str = "/health";

/// Lets a request through that has the key, if there is one.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let key = app.options.api_key.as_deref();
    if request.uri().path() == HEALTH || key.is_none_or(|key| has_key(request.headers(), key)) {
        return next.run(request).await;
    }
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "invalid_request_error",
        "invalid_api_key",
        "this server wants its key in the header Authorization: Bearer KEY",
    )
    .into_response()
}

/// Compares in a time that depends on lengths alone.
fn has_key(headers: &HeaderMap, key: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let Some((scheme, given)) = given.and_then(|value| value.split_at_checked(7)) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(given.ct_eq(key.as_bytes()))
}

/// What tells browsers that pages of these origins may use the API.
pub(crate) fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let origins = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_opens() {
        let opens = |value: &str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(value).expect("a header");
            headers.insert(header::AUTHORIZATION, value);
            has_key(&headers, "secret")
        };
        assert!(opens("Bearer secret") && opens("bearer secret"));
        for wrong in [
            "Bearer secre",
            "Bearer secrets",
            "Basic secret",
            "secret",
            "Bearer ",
            "",
        ] {
            assert!(!opens(wrong), "{wrong:?}");
        }
        assert!(!has_key(&HeaderMap::new(), "secret"));
    }
}
