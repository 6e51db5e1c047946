//! Functions that a model may call: which it must call, and what it called.

use serde_json::{Value, json};

use super::limits;
use super::protocol::chat::Tool;
use super::protocol::error::ApiError;

/// A call that a model made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The function's name.
    pub(crate) name: String,
    /// Its arguments as JSON text.
    pub(crate) arguments: String,
}

/// Whether functions are called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToolChoice {
    /// None is, and the model does not hear of them.
    None,
    /// If the model wants to.
    Auto,
    /// One is: a value that fits this schema.
    Forced(Value),
}

/// Checks the tools and reads `tool_choice`.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn choose(tools: &[Tool], choice: Option<&Value>) -> Result<ToolChoice, ApiError> {
    limits::at_most(
        "too_many_tools",
        "tools",
        "tools",
        tools.len(),
        limits::MAX_TOOLS,
    )?;
    for tool in tools {
        let parameters = tool.function.parameters.as_ref();
        limits::schema(
            "tools",
            parameters.map_or(0, |schema| schema.to_string().len()),
        )?;
    }
    let wanted = |message: &str| Err(ApiError::field("tool_choice", message));
    match choice {
        None if tools.is_empty() => Ok(ToolChoice::None),
        None => Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Ok(ToolChoice::None),
            _ if tools.is_empty() => wanted("tool_choice needs tools to choose from"),
            "auto" => Ok(ToolChoice::Auto),
            "required" => Ok(ToolChoice::Forced(any_of(tools.iter()))),
            _ => wanted("tool_choice must be none, auto, required or name a function"),
        },
        Some(choice) => match choice["function"]["name"].as_str() {
            Some(name) => {
                let mut named = tools.iter().filter(|tool| tool.function.name == name);
                match named.next() {
                    Some(tool) => Ok(ToolChoice::Forced(any_of(std::iter::once(tool)))),
                    None => wanted(&format!(
                        "tool_choice names {name:?}, which is not in tools"
                    )),
                }
            }
            None => wanted("tool_choice must be none, auto, required or name a function"),
        },
    }
}

/// The schema of a call of one of these.
fn any_of<'a>(tools: impl Iterator<Item = &'a Tool>) -> Value {
    let mut calls: Vec<Value> = tools.map(call_schema).collect();
    let mut schema = match calls.len() {
        1 => calls.remove(0),
        _ => json!({ "anyOf": calls }),
    };
    // As models were shown calls: on one line, as Python writes JSON.
    schema["x-guidance"] = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
    });
    schema
}

fn call_schema(tool: &Tool) -> Value {
    let anything = || json!({"type": "object"});
    let parameters = tool.function.parameters.clone();
    json!({
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            "arguments": parameters.unwrap_or_else(anything),
        },
        "required": ["name", "arguments"],
        "additionalProperties": false,
    })
}

/// Reads `{"name": …, "arguments": {…}}`; `parameters` is another name that models use.
pub(crate) fn parse_call(text: &str) -> Option<Call> {
    let value: Value = serde_json::from_str(text.trim()).ok()?;
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = value.get("arguments").or_else(|| value.get("parameters"));
    let arguments = match arguments {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(arguments) => arguments.to_string(),
    };
    Some(Call { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Vec<Tool> {
        let tool = |name: &&str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
        let values: Vec<Value> = names.iter().map(tool).collect();
        serde_json::from_value(Value::Array(values)).expect("tools")
    }

    #[test]
    fn a_choice_is_a_word_or_names_a_function() {
        let two = tools(&["f", "g"]);
        let read = |choice: Value| choose(&two, Some(&choice)).map_err(|error| error.code());
        assert_eq!(choose(&two, None).ok(), Some(ToolChoice::Auto));
        assert_eq!(choose(&[], None).ok(), Some(ToolChoice::None));
        assert_eq!(read(json!("none")), Ok(ToolChoice::None));
        assert_eq!(read(json!("auto")), Ok(ToolChoice::Auto));
        assert_eq!(read(json!("perhaps")), Err("invalid_value"));
        assert_eq!(
            read(json!({"function": {"name": "h"}})),
            Err("invalid_value")
        );
        let Ok(ToolChoice::Forced(schema)) = read(json!("required")) else {
            panic!("required forces");
        };
        assert_eq!(schema["anyOf"].as_array().map(Vec::len), Some(2));
        let Ok(ToolChoice::Forced(schema)) = read(json!({"function": {"name": "g"}})) else {
            panic!("a name forces");
        };
        assert_eq!(schema["properties"]["name"]["const"], "g");
        assert!(choose(&[], Some(&json!("required"))).is_err());
        let many: Vec<&str> = vec!["f"; 129];
        let error = choose(&tools(&many), None).expect_err("too many");
        assert_eq!(error.code(), "too_many_tools");
    }

    #[test]
    fn calls_are_read_as_models_write_them() {
        let read = |text: &str| parse_call(text).map(|call| (call.name, call.arguments));
        let some = |name: &str, arguments: &str| Some((name.to_owned(), arguments.to_owned()));
        assert_eq!(
            read(r#" {"name": "f", "arguments": {"b": 1, "a": []}}"#),
            some("f", r#"{"b":1,"a":[]}"#)
        );
        assert_eq!(read(r#"{"name": "f", "parameters": {}}"#), some("f", "{}"));
        assert_eq!(read(r#"{"name": "f", "arguments": "{}"}"#), some("f", "{}"));
        assert_eq!(read(r#"{"arguments": {}}"#), None);
        assert_eq!(read(r#"{"name": 1}"#), None);
    }
}
