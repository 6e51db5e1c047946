//! `/apply-template`: a conversation as the model reads it, by the name that llama.cpp's server has.

use axum::Json;
use axum::extract::State;
use onward_tokenizer::{ChatTemplate, Conversation};
use serde_json::Value;

use super::app::App;
use super::body::JsonBody;
use super::protocol::chat::{ChatFields, TemplateFields, TemplateResponse};
use super::protocol::error::ApiError;
use super::{messages, tokens};

/// Write a conversation as the model reads it
#[utoipa::path(
    post,
    path = "/apply-template",
    request_body = super::openapi::TemplateRequest,
    responses(
        (status = 200, description = "The text", body = TemplateResponse),
        (status = "4XX", description = "A conversation that cannot be written", body = super::protocol::error::ErrorBody),
    )
)]
pub(crate) async fn apply_template(
    State(app): State<App>,
    body: JsonBody,
) -> Result<Json<TemplateResponse>, ApiError> {
    let fields: ChatFields = body.read()?;
    let own: TemplateFields = body.read()?;
    tokens::blocking(&app, move |loaded| {
        let tools = fields.tools.as_deref().unwrap_or_default();
        let tools: Vec<_> = tools.iter().map(|tool| serde_json::json!(tool)).collect();
        let opens = own.add_generation_prompt.unwrap_or(true);
        let prompt = render(loaded.template()?, &fields, &tools, opens)?;
        Ok(Json(TemplateResponse { prompt }))
    })
    .await
}

/// The conversation as the model reads it, up to where its own turn has been opened if that is
/// wanted.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn render(
    template: &ChatTemplate,
    fields: &ChatFields,
    tools: &[Value],
    add_generation_prompt: bool,
) -> Result<String, ApiError> {
    let messages = messages::values(&fields.messages)?;
    let variables = messages::variables(fields)?;
    let rendered = template.render_conversation(&Conversation {
        messages: &messages,
        tools,
        variables: &variables,
        add_generation_prompt,
    });
    rendered.map_err(|error| ApiError::field("messages", error.to_string()))
}
