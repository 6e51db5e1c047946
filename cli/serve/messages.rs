//! From messages as clients send them to what a chat template sees.

use serde_json::{Map, Value, json};

use super::limits;
use super::protocol::chat::{CallOfMessage, ChatFields, ChatMessage, Content, Part, Role};
use super::protocol::error::ApiError;

/// Variables of templates that a request may set: those that templates in use ask for and that
/// name nothing but a way to write.
const VARIABLES: [&str; 8] = [
    "enable_thinking",
    "thinking",
    "reasoning_effort",
    "date_string",
    "tools_in_user_message",
    "builtin_tools",
    "documents",
    "model_identity",
];

/// The messages as templates want them.
///
/// # Errors
/// 400 that names the message.
pub(crate) fn values(messages: &[ChatMessage]) -> Result<Vec<Value>, ApiError> {
    let (n, limit) = (messages.len(), limits::MAX_MESSAGES);
    limits::at_most("too_many_messages", "messages", "messages", n, limit)?;
    if messages.is_empty() {
        return Err(ApiError::field("messages", "messages is empty"));
    }
    messages
        .iter()
        .enumerate()
        .map(|(n, message)| value(n, message))
        .collect()
}

fn value(n: usize, message: &ChatMessage) -> Result<Value, ApiError> {
    let role = match message.role {
        // Templates know these instructions by their older name.
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let content = match &message.content {
        None if matches!(message.role, Role::Assistant) => String::new(),
        None => {
            let param = format!("messages[{n}].content");
            let message = format!("the field {param} is missing");
            return Err(ApiError::invalid("missing_field", message).naming(&param));
        }
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => joined(n, parts)?,
    };
    let mut value = Map::new();
    value.insert("role".to_owned(), role.into());
    value.insert("content".to_owned(), content.into());
    let optional = [
        ("name", &message.name),
        ("tool_call_id", &message.tool_call_id),
        ("reasoning_content", &message.reasoning_content),
    ];
    for (key, text) in optional {
        if let Some(text) = text {
            value.insert(key.to_owned(), text.as_str().into());
        }
    }
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if !calls.is_empty() {
        value.insert("tool_calls".to_owned(), calls.iter().map(call).collect());
    }
    Ok(Value::Object(value))
}

/// The texts of a message's parts, a line each.
fn joined(n: usize, parts: &[Part]) -> Result<String, ApiError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (m, part) in parts.iter().enumerate() {
        match (part.kind.as_str(), &part.text) {
            ("text", Some(text)) => texts.push(text.as_str()),
            ("text", None) => {
                let param = format!("messages[{n}].content[{m}].text");
                let message = format!("the field {param} is missing");
                return Err(ApiError::invalid("missing_field", message).naming(&param));
            }
            (kind, _) => {
                let param = format!("messages[{n}].content[{m}].type");
                let message = format!("{param} is {kind:?}: only parts of type text are taken");
                return Err(ApiError::field(&param, message));
            }
        }
    }
    Ok(texts.join("\n"))
}

/// Templates write arguments out as JSON themselves.
fn call(call: &CallOfMessage) -> Value {
    let arguments = match &call.function.arguments {
        None => json!({}),
        Some(Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        }
        Some(arguments) => arguments.clone(),
    };
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    })
}

/// The template's variables that the request sets.
///
/// # Errors
/// 400 that names the variable.
pub(crate) fn variables(fields: &ChatFields) -> Result<Map<String, Value>, ApiError> {
    let mut variables = fields.chat_template_kwargs.clone().unwrap_or_default();
    if let Some(effort) = &fields.reasoning_effort {
        variables.insert("reasoning_effort".to_owned(), effort.as_str().into());
    }
    for (name, value) in &variables {
        let param = format!("chat_template_kwargs.{name}");
        if !VARIABLES.contains(&name.as_str()) {
            let known = VARIABLES.join(", ");
            let message = format!("{name:?} is not among the variables that may be set: {known}");
            return Err(ApiError::limit("variable_not_allowed", &param, message));
        }
        let (n, limit) = (value.to_string().len(), limits::MAX_KWARG_BYTES);
        limits::at_most("variable_too_large", &param, "bytes", n, limit)?;
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: Value) -> Result<Vec<Value>, &'static str> {
        let messages: Vec<ChatMessage> = serde_json::from_value(messages).expect("messages");
        values(&messages).map_err(|error| error.code())
    }

    #[test]
    fn messages_become_what_templates_know() {
        let call = json!({"id": "c", "type": "function",
            "function": {"name": "f", "arguments": "{\"x\": 1}"}});
        let seen = read(json!([
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "2"},
        ]));
        let called = json!({"id": "c", "type": "function",
            "function": {"name": "f", "arguments": {"x": 1}}});
        let expected = vec![
            json!({"role": "system", "content": "a\nb"}),
            json!({"role": "assistant", "content": "", "tool_calls": [called]}),
            json!({"role": "tool", "content": "2", "tool_call_id": "c"}),
        ];
        assert_eq!(seen, Ok(expected));
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_place() {
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]);
        let messages: Vec<ChatMessage> = serde_json::from_value(image).expect("messages");
        let error = values(&messages).expect_err("an image");
        let body = serde_json::to_value(error.body()).expect("a body");
        assert_eq!(body["error"]["param"], "messages[0].content[0].type");
        assert_eq!(read(json!([{"role": "user"}])), Err("missing_field"));
        assert_eq!(read(json!([])), Err("invalid_value"));
    }

    #[test]
    fn only_harmless_variables_may_be_set() {
        let read = |kwargs: Value| {
            let fields = json!({"messages": [], "chat_template_kwargs": kwargs});
            let fields = serde_json::from_value(fields).expect("fields");
            variables(&fields).map_err(|error| error.code())
        };
        assert!(read(json!({"enable_thinking": false})).is_ok());
        assert_eq!(read(json!({"messages": []})), Err("variable_not_allowed"));
        let long = "x".repeat(2000);
        assert_eq!(read(json!({"documents": long})), Err("variable_too_large"));
    }
}
