//! What the text must be, by each of the names that clients have for it.

use onward_engine::Constraint;

use super::limits;
use super::protocol::error::ApiError;
use super::protocol::generation::{GenerationFields, ResponseFormat};

/// The constraint that the fields ask for.
///
/// # Errors
/// 400 for more than one, or one that is too large.
pub(crate) fn read(fields: &GenerationFields) -> Result<Option<Constraint>, ApiError> {
    let format = fields
        .response_format
        .as_ref()
        .and_then(|format| match format {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(Constraint::JsonObject),
            ResponseFormat::JsonSchema { json_schema } => {
                Some(Constraint::JsonSchema(json_schema.schema.clone()))
            }
        });
    let json = fields.guided_json.clone().map(Constraint::JsonSchema);
    let regex = fields.guided_regex.clone().map(Constraint::Regex);
    let choice = fields.guided_choice.as_deref().map(one_of).transpose()?;
    let grammar = fields.grammar.clone().map(Constraint::Lark);
    let mut wanted: Vec<(&str, Constraint)> = [
        ("response_format", format),
        ("guided_json", json),
        ("guided_regex", regex),
        ("guided_choice", choice),
        ("grammar", grammar),
    ]
    .into_iter()
    .filter_map(|(name, constraint)| Some((name, constraint?)))
    .collect();
    if let [(first, _), (second, _), ..] = &wanted[..] {
        let message = format!("{first} and {second} cannot be combined: one constraint is taken");
        return Err(ApiError::field(second, message));
    }
    let Some((name, constraint)) = wanted.pop() else {
        return Ok(None);
    };
    limits::schema(
        name,
        match &constraint {
            Constraint::JsonObject => 0,
            Constraint::JsonSchema(schema) => schema.to_string().len(),
            Constraint::Regex(text) | Constraint::Lark(text) => text.len(),
        },
    )?;
    Ok(Some(constraint))
}

/// An expression that matches these texts alone.
fn one_of(texts: &[String]) -> Result<Constraint, ApiError> {
    if texts.is_empty() {
        return Err(ApiError::field("guided_choice", "guided_choice is empty"));
    }
    let texts: Vec<String> = texts.iter().map(|text| escaped(text)).collect();
    Ok(Constraint::Regex(format!("({})", texts.join("|"))))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_fields(fields: Value) -> Result<Option<Constraint>, &'static str> {
        let fields: GenerationFields = serde_json::from_value(fields).expect("fields");
        read(&fields).map_err(|error| error.code())
    }

    #[test]
    fn each_name_of_a_constraint_is_read() {
        let schema = json!({"type": "object"});
        let as_schema = || Ok(Some(Constraint::JsonSchema(schema.clone())));
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        assert_eq!(read_fields(json!({})), Ok(None));
        assert_eq!(
            read_fields(json!({"response_format": {"type": "text"}})),
            Ok(None)
        );
        assert_eq!(read_fields(json!({"response_format": format})), as_schema());
        assert_eq!(read_fields(json!({"guided_json": schema})), as_schema());
        assert_eq!(read_fields(json!({"json_schema": schema})), as_schema());
        let object = json!({"response_format": {"type": "json_object"}});
        assert_eq!(read_fields(object), Ok(Some(Constraint::JsonObject)));
        let regex = |text: &str| Ok(Some(Constraint::Regex(text.to_owned())));
        assert_eq!(read_fields(json!({"guided_regex": "a+"})), regex("a+"));
        let choice = json!({"guided_choice": ["a.b", "ü"]});
        assert_eq!(read_fields(choice), regex("(a\\.b|ü)"));
        let lark = Constraint::Lark("start: \"a\"".to_owned());
        assert_eq!(
            read_fields(json!({"grammar": "start: \"a\""})),
            Ok(Some(lark))
        );
    }

    #[test]
    fn one_constraint_of_bounded_size_is_taken() {
        let two = json!({"guided_regex": "a", "grammar": "start: \"a\""});
        assert_eq!(read_fields(two), Err("invalid_value"));
        let large = json!({"guided_regex": "a".repeat(70_000)});
        assert_eq!(read_fields(large), Err("schema_too_large"));
        assert_eq!(
            read_fields(json!({"guided_choice": []})),
            Err("invalid_value")
        );
    }
}
