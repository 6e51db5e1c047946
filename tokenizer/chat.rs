//! Chat templates: the Jinja source in a model file that turns messages into a prompt.
//!
//! The environment is the one that `transformers` gives its templates (`trim_blocks`,
//! `lstrip_blocks`, loop controls, Python's string methods, `raise_exception`, `strftime_now`,
//! a `tojson` without HTML escapes). A template comes from a file that may be hostile: its work
//! and memory are bounded by fuel, its output by a limit, and it runs on a stack that holds the
//! deepest nesting that its length and fuel allow.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::TokenizerError;
use crate::python_compat;

/// Longest template source, in bytes; the longest in use have 17 KB.
const MAX_SOURCE: usize = 64 << 10;
/// Most operators in a source, the bytes of its text that look like them included: compiling a
/// chain of them takes time in the square of its length (4000: 0.4 s); templates in use have
/// below 1000.
const MAX_OPERATORS: usize = 4_000;
/// Fuel of a render apart from what the messages add. One unit is an instruction or 64 bytes of
/// data; templates in use spend below 1000 on a short conversation.
const BASE_FUEL: u64 = 20_000;
/// Fuel that each message adds.
const FUEL_PER_MESSAGE: u64 = 1_000;
/// Bytes of message text that add one unit of fuel: enough to copy the text 16 times.
const BYTES_PER_FUEL: u64 = 4;
/// Most fuel, however long the conversation: 64 MB of data.
const MAX_FUEL: u64 = 1_000_000;
/// Stack of a compilation or a render. Each level of nesting, in the source or in a value, takes
/// up to 480 bytes of it (measured); a source has a level per two bytes at most, and building a
/// level at run time costs 6 units of fuel: 80 MB.
const STACK: usize = 160 << 20;
/// Depth of nested blocks, macros and calls.
const MAX_RECURSION: usize = 100;
/// Output beyond the messages' own text, in bytes.
const MAX_EXTRA_OUTPUT: usize = 1 << 20;
/// How often a template may repeat the messages' text in its output.
const MAX_REPEATS: usize = 8;
/// Longest message of an error, in characters: a template may put anything into one.
const MAX_ERROR: usize = 300;
const TEMPLATE_NAME: &str = "chat_template";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Everything that a template may be told of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// The turns: objects with `role`, `content` and what else the template knows, such as
    /// `tool_calls`.
    pub messages: &'a [Json],
    /// The functions that the model may call, in OpenAI's form; none where empty.
    pub tools: &'a [Json],
    /// Further variables, such as `enable_thinking`.
    pub variables: &'a Map<String, Json>,
    /// Opens the assistant's turn at the end.
    pub add_generation_prompt: bool,
}

/// A compiled chat template with the texts of the model's BOS and EOS tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles `source`. `bos` and `eos` are what the template sees as `bos_token` and
    /// `eos_token`; empty where the model has none.
    ///
    /// # Errors
    /// A source that does not parse, or is longer or has more operators than any in use.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TokenizerError> {
        if source.len() > MAX_SOURCE {
            let detail = format!("it is {} bytes long, more than {MAX_SOURCE}", source.len());
            return Err(TokenizerError::InvalidTemplate { detail });
        }
        let n_operators = count_operators(source);
        if n_operators > MAX_OPERATORS {
            let detail = format!("it has {n_operators} operators, more than {MAX_OPERATORS}");
            return Err(TokenizerError::InvalidTemplate { detail });
        }
        let environment = on_deep_stack(|| compile(source.to_owned()))?;
        Ok(Self {
            environment: environment.map_err(|error| invalid(&error))?,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    /// The prompt for `messages`, with the opening of the assistant's turn if asked.
    ///
    /// A template may write BOS itself: encoding the result with `add_bos` still gives one.
    ///
    /// # Errors
    /// The template refuses the messages (`raise_exception`), fails, or exceeds its limits.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TokenizerError> {
        let n_bytes = messages
            .iter()
            .map(|message| message.role.len() + message.content.len())
            .sum();
        let values = messages.iter().map(as_value).collect();
        self.run(values, n_bytes, add_generation_prompt, &Map::new())
    }

    /// The prompt for a conversation of whatever the template knows.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_conversation(
        &self,
        conversation: &Conversation<'_>,
    ) -> Result<String, TokenizerError> {
        let Conversation {
            messages, tools, ..
        } = conversation;
        let n_bytes = messages.iter().chain(*tools).map(text_bytes).sum();
        let mut variables = conversation.variables.clone();
        if !tools.is_empty() {
            variables.insert("tools".to_owned(), tools.to_vec().into());
        }
        self.run(
            messages.iter().map(from_json).collect(),
            n_bytes,
            conversation.add_generation_prompt,
            &variables,
        )
    }

    /// Whether `text` occurs in the template's source: what a template knows shows in what it
    /// reads and writes.
    pub fn mentions(&self, text: &str) -> bool {
        let template = self.environment.get_template(TEMPLATE_NAME);
        template.is_ok_and(|template| template.source().contains(text))
    }

    /// Renders with bounded work; `n_bytes` is how much text there is to write.
    fn run(
        &self,
        messages: Vec<Value>,
        n_bytes: usize,
        add_generation_prompt: bool,
        variables: &Map<String, Json>,
    ) -> Result<String, TokenizerError> {
        let fuel =
            BASE_FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + n_bytes as u64 / BYTES_PER_FUEL;
        let limit = n_bytes
            .saturating_mul(MAX_REPEATS)
            .saturating_add(MAX_EXTRA_OUTPUT);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel.min(MAX_FUEL)));
        let mut output = LimitedOutput {
            bytes: Vec::new(),
            limit,
            exceeded: false,
        };
        let rendered = on_deep_stack(|| {
            let own = [
                ("messages", messages.into()),
                ("add_generation_prompt", add_generation_prompt.into()),
                ("bos_token", self.bos.as_str().into()),
                ("eos_token", self.eos.as_str().into()),
            ];
            let further = variables
                .iter()
                .map(|(name, value)| (name.as_str(), from_json(value)));
            // What comes last wins: no variable replaces what the template is told otherwise.
            let values = Value::from_pairs(further.chain(own));
            let template = environment.get_template(TEMPLATE_NAME)?;
            template.render_captured_to(values, &mut output).map(drop)
        })?;
        match rendered {
            Ok(()) => String::from_utf8(output.bytes)
                .map_err(|error| render_error(format!("its output is no text: {error}"))),
            Err(_) if output.exceeded => Err(render_error(format!(
                "its output is longer than {limit} bytes"
            ))),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// At least the number of arithmetic operators and negations in a source; what touches a brace
/// or a percent sign belongs to a delimiter such as `{%-`, or is next to an operator that counts.
fn count_operators(source: &str) -> usize {
    let bytes = source.as_bytes();
    let symbols = bytes.iter().enumerate().filter(|&(i, byte)| {
        let before = i.checked_sub(1).map_or(b' ', |i| bytes[i]);
        let after = bytes.get(i + 1).copied().unwrap_or(b' ');
        matches!(byte, b'+' | b'-' | b'*' | b'/' | b'%' | b'~')
            && !matches!(before, b'{' | b'%' | b'#')
            && !matches!(after, b'}' | b'%' | b'#')
    });
    symbols.count() + source.matches("not").count()
}

/// The environment of `transformers` with the template compiled in it.
fn compile(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(python_compat::call_method);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", python_compat::strftime_now);
    environment.add_filter("tojson", python_compat::tojson);
    environment.add_template_owned(TEMPLATE_NAME, source)?;
    Ok(environment)
}

/// Runs the template engine where recursion over hostile input cannot exhaust the stack.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TokenizerError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("chat-template".into())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| render_error(format!("no thread can be started for it: {error}")))?
            .join()
            .map_err(|_| render_error("the template engine panicked".into()))
    })
}

fn as_value(message: &Message) -> Value {
    context! { role => message.role.as_str(), content => message.content.as_str() }
}

/// JSON as templates see it; it is as deep as its parser allowed.
fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(entries) => Value::from_pairs(
            entries
                .iter()
                .map(|(key, value)| (key.as_str(), from_json(value))),
        ),
    }
}

/// How much text a value is when it is written out, at least.
fn text_bytes(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(text_bytes).sum(),
        Json::Object(entries) => entries
            .iter()
            .map(|(key, value)| key.len() + text_bytes(value))
            .sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
    }
}

/// Output of a render that refuses to grow beyond a limit.
struct LimitedOutput {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Write for LimitedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.exceeded = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn invalid(error: &Error) -> TokenizerError {
    TokenizerError::InvalidTemplate {
        detail: one_line(error),
    }
}

fn failed(error: &Error) -> TokenizerError {
    render_error(match error.kind() {
        ErrorKind::OutOfFuel => "it takes too much time or memory".into(),
        _ => one_line(error),
    })
}

fn render_error(detail: String) -> TokenizerError {
    TokenizerError::Render { detail }
}

/// What the engine says and where, on one line of bounded length without control characters.
fn one_line(error: &Error) -> String {
    let message = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    let words = message.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut text: String = words.join(" ").chars().take(MAX_ERROR).collect();
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line} of the template)"));
    }
    text
}
