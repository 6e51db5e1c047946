//! `/health` and `/v1/models`.

use axum::Json;
use axum::extract::{Path, State};
use onward_engine::Health;

use super::app::{App, Loaded};
use super::protocol::error::ApiError;
use super::protocol::tokens::{
    DefaultParams, DefaultSettings, HealthResponse, ModelCard, ModelList, PropsResponse,
};

/// Whether requests are served
#[utoipa::path(
    get,
    path = "/health",
    responses(
        (status = 200, description = "They are", body = HealthResponse),
        (status = 503, description = "The model is being loaded, or the server is about to end", body = super::protocol::error::ErrorBody),
    )
)]
pub(crate) async fn health(State(app): State<App>) -> Result<Json<HealthResponse>, ApiError> {
    match app.loaded()?.service.health() {
        Health::Ready => Ok(Json(HealthResponse { status: "ok" })),
        Health::Draining => Err(ApiError::unavailable(
            "shutting_down",
            "the server is shutting down",
        )),
        Health::Restarting => Err(ApiError::unavailable(
            "restarting",
            "the engine is starting again after a failure",
        )),
        Health::Failed(why) => Err(ApiError::unavailable("engine_failed", why)),
    }
}

/// The models that are served
#[utoipa::path(
    get,
    path = "/v1/models",
    responses((status = 200, description = "The model by each of its names", body = ModelList))
)]
pub(crate) async fn models(State(app): State<App>) -> Result<Json<ModelList>, ApiError> {
    let loaded = app.loaded()?;
    let names = app.options.model_names.iter();
    Ok(Json(ModelList {
        object: "list",
        data: names.map(|name| card(&app, loaded, name)).collect(),
    }))
}

/// One model
#[utoipa::path(
    get,
    path = "/v1/models/{name}",
    params(("name" = String, Path, description = "One of the model's names")),
    responses((status = 200, description = "The model", body = ModelCard))
)]
pub(crate) async fn model(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<ModelCard>, ApiError> {
    let loaded = app.loaded_as(Some(&name))?;
    Ok(Json(card(&app, loaded, &name)))
}

/// What requests need to know of the model
#[utoipa::path(
    get,
    path = "/props",
    responses((status = 200, description = "Its defaults and its special tokens", body = PropsResponse))
)]
pub(crate) async fn props(State(app): State<App>) -> Result<Json<PropsResponse>, ApiError> {
    let loaded = app.loaded()?;
    let model = loaded.model();
    let sampling = &model.default_sampling;
    Ok(Json(PropsResponse {
        default_generation_settings: DefaultSettings {
            n_ctx: model.n_ctx,
            params: DefaultParams {
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
            },
        },
        has_chat_template: loaded.template().is_ok(),
        stop_token_ids: model.stop_ids.clone(),
        vocab_size: model.config.vocab_size,
    }))
}

fn card(app: &App, loaded: &Loaded, name: &str) -> ModelCard {
    ModelCard {
        id: name.to_owned(),
        object: "model",
        created: app.created,
        owned_by: "onward",
        root: app.model_name().to_owned(),
        max_model_len: loaded.model().n_ctx,
    }
}
