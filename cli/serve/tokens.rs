//! `/tokenize` and `/detokenize`, and what other routes need of the vocabulary.

use axum::Json;
use axum::extract::State;

use super::app::{App, Loaded};
use super::body::JsonBody;
use super::limits;
use super::protocol::error::ApiError;
use super::protocol::tokens::{
    DetokenizeRequest, DetokenizeResponse, Piece, TokenOfText, TokenizeRequest, TokenizeResponse,
};

/// Turn text into token ids
#[utoipa::path(
    post,
    path = "/tokenize",
    request_body = TokenizeRequest,
    responses((status = 200, description = "The ids", body = TokenizeResponse))
)]
pub(crate) async fn tokenize(
    State(app): State<App>,
    body: JsonBody,
) -> Result<Json<TokenizeResponse>, ApiError> {
    let fields: TokenizeRequest = body.read()?;
    blocking(&app, move |loaded| {
        let (param, text, with_bos) = match (&fields.content, &fields.prompt) {
            (Some(content), None) => ("content", content, fields.add_special.unwrap_or(false)),
            (None, Some(prompt)) => ("prompt", prompt, fields.add_special_tokens.unwrap_or(true)),
            _ => {
                let message = "either content or prompt is wanted";
                return Err(ApiError::invalid("missing_field", message).naming("content"));
            }
        };
        let ids = match with_bos {
            true => prompt_ids(loaded, param, text)?,
            false => {
                limits::text(param, text.len(), loaded.model().n_ctx)?;
                encode(loaded, param, text)?
            }
        };
        let with_texts = fields.return_token_strs.unwrap_or(false);
        let with_pieces = fields.with_pieces.unwrap_or(false);
        let tokenizer = &loaded.model().tokenizer;
        let text_of = |&id: &u32| tokenizer.token_text(id).unwrap_or_default();
        let token = |&id: &u32| match with_pieces {
            false => TokenOfText::Id(id),
            true => TokenOfText::Piece {
                id,
                piece: match String::from_utf8(tokenizer.token_bytes(id).unwrap_or_default()) {
                    Ok(text) => Piece::Text(text),
                    Err(error) => Piece::Bytes(error.into_bytes()),
                },
            },
        };
        Ok(Json(TokenizeResponse {
            count: ids.len(),
            max_model_len: loaded.model().n_ctx,
            tokens: ids.iter().map(token).collect(),
            token_strs: with_texts.then(|| ids.iter().map(text_of).collect()),
        }))
    })
    .await
}

/// Turn token ids into text
#[utoipa::path(
    post,
    path = "/detokenize",
    request_body = DetokenizeRequest,
    responses((status = 200, description = "The text", body = DetokenizeResponse))
)]
pub(crate) async fn detokenize(
    State(app): State<App>,
    body: JsonBody,
) -> Result<Json<DetokenizeResponse>, ApiError> {
    let fields: DetokenizeRequest = body.read()?;
    blocking(&app, move |loaded| {
        let content = text(loaded, "tokens", &fields.tokens)?;
        Ok(Json(DetokenizeResponse {
            prompt: content.clone(),
            content,
        }))
    })
    .await
}

/// Does work that takes a while where it holds up no other request.
///
/// # Errors
/// Those of the work; 503 while the model is being loaded; 500 where it panics.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Loaded) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let app = app.clone();
    tokio::task::spawn_blocking(move || work(app.loaded()?))
        .await
        .map_err(|_| ApiError::internal("an internal error; the server's log has more"))?
}

/// The ids of a prompt, with the beginning-of-sequence token where the model wants one.
///
/// # Errors
/// 400 about `param`.
pub(crate) fn prompt_ids(loaded: &Loaded, param: &str, text: &str) -> Result<Vec<u32>, ApiError> {
    let model = loaded.model();
    limits::text(param, text.len(), model.n_ctx)?;
    let ids = model.tokenizer.encode(text, model.tokenizer.adds_bos());
    ids.map_err(|error| ApiError::field(param, error.to_string()))
}

/// The ids of a text by itself.
///
/// # Errors
/// 400 about `param`.
pub(crate) fn encode(loaded: &Loaded, param: &str, text: &str) -> Result<Vec<u32>, ApiError> {
    let ids = loaded.model().tokenizer.encode(text, false);
    ids.map_err(|error| ApiError::field(param, error.to_string()))
}

/// The text of ids.
///
/// # Errors
/// 400 about `param` for an id beyond the vocabulary.
pub(crate) fn text(loaded: &Loaded, param: &str, ids: &[u32]) -> Result<String, ApiError> {
    let text = loaded.model().tokenizer.decode(ids);
    text.map_err(|error| ApiError::field(param, error.to_string()))
}
