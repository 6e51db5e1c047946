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
        let lengths = messages
            .iter()
            .map(|message| message.role.len() + message.content.len());
        let n_bytes: usize = lengths.sum();
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
            let values = context! {
                messages => messages.iter().map(as_value).collect::<Vec<Value>>(),
                add_generation_prompt,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
            };
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
