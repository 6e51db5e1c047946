//! `/v1/embeddings`: texts as vectors.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::oneshot;

use super::app::App;
use super::body::JsonBody;
use super::limits;
use super::protocol::Prompt;
use super::protocol::embedding::{
    Embedding, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EncodingFormat, Vector,
};
use super::protocol::error::ApiError;
use super::tokens;

/// Turn texts into vectors
///
/// The direction of the mean of the model's last hidden states, of length 1.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    request_body = EmbeddingRequest,
    responses((status = 200, description = "A vector a text", body = EmbeddingResponse))
)]
pub(crate) async fn embeddings(
    State(app): State<App>,
    body: JsonBody,
) -> Result<Json<EmbeddingResponse>, ApiError> {
    let fields: EmbeddingRequest = body.read()?;
    let loaded = app.loaded_as(fields.model.as_deref())?;
    let width = loaded.model().config.width;
    if fields
        .dimensions
        .is_some_and(|dimensions| dimensions != width)
    {
        let message =
            format!("dimensions is not supported: vectors have the model's width, {width}");
        return Err(ApiError::limit(
            "unsupported_parameter",
            "dimensions",
            message,
        ));
    }
    let inputs: Vec<Prompt> = fields.input.into();
    limits::at_most(
        "too_many_inputs",
        "input",
        "texts",
        inputs.len(),
        limits::MAX_INPUTS,
    )?;
    if inputs.is_empty() {
        return Err(ApiError::field("input", "input is empty"));
    }
    let prompts = tokens::blocking(&app, move |loaded| {
        let ids = |input| match input {
            Prompt::Text(text) => tokens::prompt_ids(loaded, "input", &text),
            Prompt::Ids(ids) => Ok(ids),
        };
        inputs.into_iter().map(ids).collect::<Result<Vec<_>, _>>()
    })
    .await?;
    let n_tokens = prompts.iter().map(Vec::len).sum();
    let mut answers = Vec::with_capacity(prompts.len());
    for ids in prompts {
        let (sender, answer) = oneshot::channel();
        // Nobody may be left to hear it.
        let done = move |vector| drop(sender.send(vector));
        let taken = loaded.service.embed(ids, done);
        taken.map_err(|refusal| ApiError::refused(refusal, "input"))?;
        answers.push(answer);
    }
    let mut data = Vec::with_capacity(answers.len());
    for (index, answer) in answers.into_iter().enumerate() {
        let vector = answer
            .await
            .map_err(|_| ApiError::unavailable("shutting_down", "the server is shutting down"))?
            .map_err(|error| ApiError::of_engine(&error, "input"))?;
        data.push(Embedding {
            object: "embedding",
            index,
            embedding: written(vector, fields.encoding_format),
        });
    }
    Ok(Json(EmbeddingResponse {
        object: "list",
        data,
        model: app.model_name().to_owned(),
        usage: EmbeddingUsage {
            prompt_tokens: n_tokens,
            total_tokens: n_tokens,
        },
    }))
}

fn written(vector: Vec<f32>, format: EncodingFormat) -> Vector {
    match format {
        EncodingFormat::Float => Vector::Float(vector),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        }
    }
}
