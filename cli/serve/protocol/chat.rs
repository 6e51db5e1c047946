//! `/v1/chat/completions`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Usage;

/// The fields that plain completions do not have.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct ChatFields {
    /// The conversation so far.
    pub(crate) messages: Vec<ChatMessage>,
    /// Reports each token's log-probability.
    pub(crate) logprobs: Option<bool>,
    /// How many alternatives to report with each.
    pub(crate) top_logprobs: Option<usize>,
    /// Functions that the model may call, for templates that have them.
    pub(crate) tools: Option<Vec<Tool>>,
    /// `none`, `auto`, `required`, or `{"type":"function","function":{"name":…}}`.
    #[schema(value_type = Option<Object>)]
    pub(crate) tool_choice: Option<Value>,
    /// Variables of the template, such as `enable_thinking`.
    #[schema(value_type = Option<Object>)]
    pub(crate) chat_template_kwargs: Option<Map<String, Value>>,
    /// How hard to think, for templates that ask.
    pub(crate) reasoning_effort: Option<String>,
    /// The most tokens to think before the answer begins.
    pub(crate) thinking_budget: Option<usize>,
}

/// The field that only `/apply-template` has.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
pub(crate) struct TemplateFields {
    /// Opens the assistant's turn; true where it is left out.
    pub(crate) add_generation_prompt: Option<bool>,
}

/// A conversation as the model reads it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TemplateResponse {
    /// The text.
    pub(crate) prompt: String,
}

/// A message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub(crate) role: Role,
    /// What is said.
    pub(crate) content: Option<Content>,
    /// Who says it, or the tool that answers.
    pub(crate) name: Option<String>,
    /// The calls that the assistant made.
    pub(crate) tool_calls: Option<Vec<CallOfMessage>>,
    /// The call that a tool answers.
    pub(crate) tool_call_id: Option<String>,
    /// What the assistant thought before.
    pub(crate) reasoning_content: Option<String>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Instructions.
    System,
    /// The same by its newer name.
    Developer,
    /// A person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered.
    Tool,
}

/// What is said.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "a string or an array of content parts is wanted"
)]
pub(crate) enum Content {
    /// As one text.
    Text(String),
    /// In parts.
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct Part {
    /// `text`; nothing else is taken.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The text.
    pub(crate) text: Option<String>,
}

/// A call that the assistant made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct CallOfMessage {
    /// Its id.
    pub(crate) id: Option<String>,
    /// The function.
    pub(crate) function: FunctionOfMessage,
}

/// A function that was called.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct FunctionOfMessage {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments as JSON text, or as JSON.
    #[schema(value_type = Option<String>)]
    pub(crate) arguments: Option<Value>,
}

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    pub(crate) kind: ToolKind,
    /// The function.
    pub(crate) function: Function,
}

/// The kinds of tools.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToolKind {
    /// A function.
    Function,
}

/// A function.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// A JSON schema of its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) parameters: Option<Value>,
}

/// A chat completion.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatResponse {
    /// The request's id.
    pub(crate) id: String,
    /// `chat.completion`, or `chat.completion.chunk` for a piece of one.
    pub(crate) object: &'static str,
    /// When it was begun, in seconds since 1970.
    pub(crate) created: u64,
    /// The model's name.
    pub(crate) model: String,
    /// The answers, by index.
    pub(crate) choices: Vec<ChatChoice>,
    /// Tokens that the request took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
}

/// One answer: whole in `message`, or a piece in `delta`.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    /// Its number.
    pub(crate) index: usize,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Answer>,
    /// A piece of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Answer>,
    /// The tokens of the answer, with what it thought and its calls.
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`, `tool_calls`, or nothing while it goes on.
    pub(crate) finish_reason: Option<&'static str>,
}

/// What the assistant says, or a piece of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// `assistant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    /// The text.
    pub(crate) content: Option<String>,
    /// What was thought before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    /// The functions to call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_calls: Option<Vec<ToolCall>>,
}

/// A function to call.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ToolCall {
    /// Its number among the answer's calls.
    pub(crate) index: usize,
    /// Its id, which the answer to it names.
    pub(crate) id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The function.
    pub(crate) function: CalledFunction,
}

/// A function and its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct CalledFunction {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments as JSON text.
    pub(crate) arguments: String,
}

/// The tokens of an answer.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    /// In order.
    pub(crate) content: Vec<TokenLogprob>,
    /// Always empty.
    #[schema(value_type = Option<Vec<TokenLogprob>>)]
    pub(crate) refusal: Option<()>,
}

/// A token and its alternatives.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenLogprob {
    /// Its text.
    pub(crate) token: String,
    /// Its natural log-probability.
    pub(crate) logprob: f32,
    /// Its bytes, not always whole characters.
    pub(crate) bytes: Vec<u8>,
    /// The likeliest tokens at its place.
    pub(crate) top_logprobs: Vec<Alternative>,
}

/// An alternative.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Alternative {
    /// Its text.
    pub(crate) token: String,
    /// Its natural log-probability.
    pub(crate) logprob: f32,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}
