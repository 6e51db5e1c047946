//! Chat templates: the Jinja source in a model file that turns messages into a prompt.
//!
//! The environment is the one that `transformers` gives its templates (`trim_blocks`,
//! `lstrip_blocks`, loop controls, Python's string methods, `raise_exception`, `strftime_now`,
//! a `tojson` without HTML escapes). A template comes from a file that may be hostile, so its
//! work and memory are bounded by fuel, its recursion and its output by limits.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};

use crate::TokenizerError;
use crate::python_compat;

/// Longest template source, in bytes; the longest in use are about 20 KB.
const MAX_SOURCE: usize = 1 << 20;
/// Fuel of a render apart from what the messages add. One unit is an instruction or 64 bytes of
/// data, so this bounds a template's own data to 16 MB.
const BASE_FUEL: u64 = 250_000;
/// Fuel that each message adds; templates in use spend below 200.
const FUEL_PER_MESSAGE: u64 = 2_000;
/// Output beyond the messages' own text, in bytes.
const MAX_EXTRA_OUTPUT: usize = 4 << 20;
/// How often a template may repeat the messages' text in its output.
const MAX_REPEATS: usize = 8;
/// Depth of nested blocks, macros and calls.
const MAX_RECURSION: usize = 100;
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
    /// A source that does not parse, or is longer than 1 MiB.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TokenizerError> {
        if source.len() > MAX_SOURCE {
            let detail = format!("it is {} bytes long, more than {MAX_SOURCE}", source.len());
            return Err(TokenizerError::InvalidTemplate { detail });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| invalid(&error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_recursion_limit(MAX_RECURSION);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", python_compat::strftime_now);
        environment.add_filter("tojson", python_compat::tojson);
        environment
            .add_template_owned(TEMPLATE_NAME, source.to_owned())
            .map_err(|error| invalid(&error))?;
        Ok(Self {
            environment,
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
        let content_len = messages
            .iter()
            .map(|message| message.role.len() + message.content.len())
            .sum::<usize>();
        let mut environment = self.environment.clone();
        let fuel = BASE_FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + content_len as u64;
        environment.set_fuel(Some(fuel));
        let template = environment
            .get_template(TEMPLATE_NAME)
            .map_err(|error| failed(&error))?;
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
            .collect();
        let values = context! {
            messages,
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let limit = content_len
            .saturating_mul(MAX_REPEATS)
            .saturating_add(MAX_EXTRA_OUTPUT);
        let mut output = LimitedOutput {
            bytes: Vec::new(),
            limit,
            exceeded: false,
        };
        if let Err(error) = template.render_captured_to(values, &mut output) {
            return Err(if output.exceeded {
                TokenizerError::Render {
                    detail: format!("its output is longer than {limit} bytes"),
                }
            } else {
                failed(&error)
            });
        }
        String::from_utf8(output.bytes).map_err(|error| TokenizerError::Render {
            detail: format!("its output is no text: {error}"),
        })
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
    let detail = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too much time or memory".to_owned(),
        _ => one_line(error),
    };
    TokenizerError::Render { detail }
}

/// What the engine says and where, on one line of bounded length.
fn one_line(error: &Error) -> String {
    let message = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    let message: Vec<&str> = message.split_whitespace().collect();
    let mut text: String = message.join(" ").chars().take(MAX_ERROR).collect();
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line} of the template)"));
    }
    text
}
