//! `/openapi.json`: the API described for programs.
#![allow(
    unused_qualifications,
    reason = "what utoipa derives writes paths out in full"
)]

use axum::Json;
use utoipa::openapi::schema::AllOfBuilder;
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use super::protocol::chat::{ChatFields, TemplateFields};
use super::protocol::completion::CompletionFields;
use super::protocol::generation::GenerationFields;
use super::{chat, completions, embeddings, metrics, status, template, tokens};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Onward",
        description = "An autoregressive language model, through the API that existing clients speak. Unknown fields are accepted.",
    ),
    paths(
        chat::chat_completions,
        completions::completions,
        embeddings::embeddings,
        metrics::metrics,
        status::health,
        status::model,
        status::models,
        status::props,
        template::apply_template,
        tokens::detokenize,
        tokens::tokenize,
    ),
    components(schemas(ChatFields, CompletionFields, GenerationFields, TemplateFields))
)]
struct Description;

/// The description.
pub(crate) async fn openapi() -> Json<OpenApi> {
    Json(Description::openapi())
}

/// Declares a body whose fields are read as two types.
macro_rules! body {
    ($name:ident, $own:literal, $other:literal) => {
        /// A request's body.
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let all = AllOfBuilder::new()
                    .item(Ref::from_schema_name($own))
                    .item(Ref::from_schema_name($other));
                RefOr::T(Schema::AllOf(all.build()))
            }
        }

        impl ToSchema for $name {}
    };
}

body!(CompletionRequest, "CompletionFields", "GenerationFields");
body!(ChatRequest, "ChatFields", "GenerationFields");
body!(TemplateRequest, "ChatFields", "TemplateFields");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_a_target() {
        let text = Description::openapi().to_json().expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let schemas = value["components"]["schemas"].as_object().expect("schemas");
        let names = text.split("#/components/schemas/").skip(1);
        for name in names.filter_map(|rest| rest.split('"').next()) {
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(value["paths"]["/v1/chat/completions"]["post"].is_object());
    }
}
