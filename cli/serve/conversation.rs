//! A conversation as the model sees it, and what its answer may be made of.

use onward_engine::Thinking;
use serde_json::{Value, json};

use super::answer::{AnswerKind, CALL, THINK, THINK_END};
use super::app::Loaded;
use super::protocol::chat::ChatFields;
use super::protocol::error::ApiError;
use super::tools::{self, ToolChoice};
use super::{logs, template, tokens};

/// A thought that only the end of the context bounds.
const NO_BUDGET: usize = usize::MAX;

/// What the model sees of a conversation, and what its answer may be made of.
pub(crate) struct Prompt {
    pub(crate) ids: Vec<u32>,
    pub(crate) kind: AnswerKind,
    /// What the answer must fit, if it must be a call.
    pub(crate) call_schema: Option<Value>,
}

impl Prompt {
    /// Renders the conversation.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn new(loaded: &Loaded, fields: &ChatFields) -> Result<Self, ApiError> {
        let template = loaded.template()?;
        let tools = fields.tools.as_deref().unwrap_or_default();
        let choice = tools::choose(tools, fields.tool_choice.as_ref())?;
        let tools = match choice {
            ToolChoice::None => Vec::new(),
            _ => tools.iter().map(|tool| json!(tool)).collect(),
        };
        if !tools.is_empty() && !template.mentions("tools") {
            let message = "this model's chat template has no place for tools";
            return Err(ApiError::limit("tools_not_supported", "tools", message));
        }
        let mut text = template::render(template, fields, &tools, true)?;
        let is_call = matches!(choice, ToolChoice::Forced(_));
        let is_thinking = text.trim_end().ends_with(THINK);
        if is_call && !is_thinking && template.mentions(CALL) {
            // As the model writes a call by itself.
            text.push_str(CALL);
            text.push('\n');
        }
        let ids = tokens::prompt_ids(loaded, "messages", &text)?;
        logs::prompt(&loaded.model().tokenizer, &ids);
        Ok(Self {
            ids,
            kind: AnswerKind {
                may_think: !is_call && loaded.thinks(),
                is_thinking,
                may_call: choice == ToolChoice::Auto,
                is_call,
            },
            call_schema: match choice {
                ToolChoice::Forced(schema) => Some(schema),
                ToolChoice::None | ToolChoice::Auto => None,
            },
        })
    }
}

/// How long the model may think: as the request says; without end where a thought has begun that
/// a constraint must not hold for.
///
/// # Errors
/// 400 about `thinking_budget` for a model that does not think.
pub(crate) fn thinking(
    loaded: &Loaded,
    kind: AnswerKind,
    budget: Option<usize>,
    is_constrained: bool,
) -> Result<Option<Thinking>, ApiError> {
    let budget = match budget {
        Some(_) if !kind.may_think && !kind.is_thinking => {
            let message = "this model does not think: neither its vocabulary nor its chat \
                           template has </think>";
            return Err(ApiError::field("thinking_budget", message));
        }
        None if kind.is_thinking && is_constrained => NO_BUDGET,
        None => return Ok(None),
        Some(budget) => budget,
    };
    let end = end_of_thought(loaded)?;
    Ok(Some(Thinking { end, budget }))
}

/// The tokens that end a thought, without the space that some vocabularies put before a text.
fn end_of_thought(loaded: &Loaded) -> Result<Vec<u32>, ApiError> {
    let tokenizer = &loaded.model().tokenizer;
    if let Some(id) = tokenizer.id_of(THINK_END) {
        return Ok(vec![id]);
    }
    let text = |id| tokenizer.token_text(id).unwrap_or_default();
    let mut ids = tokens::encode(loaded, "thinking_budget", THINK_END)?;
    if ids.first().is_some_and(|&id| text(id) == " ") {
        ids.remove(0);
    }
    Ok(ids)
}
