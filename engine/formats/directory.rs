//! Model directories as the Hub lays them out.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{FormatError, Safetensors};

/// Largest JSON or template file that is read, in bytes; a `tokenizer.json` of a quarter of a
/// million tokens has some 35 MB.
const MAX_TEXT_BYTES: u64 = 1 << 28;

const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// A directory with a model's configuration, tokenizer and weights.
#[derive(Debug)]
pub struct HubDirectory {
    path: PathBuf,
    config: Value,
    tokenizer_config: Option<Value>,
    generation_config: Option<Value>,
    chat_template: Option<String>,
    weights: Safetensors,
}

impl HubDirectory {
    /// Reads the directory's JSON files and opens its weights. `config.json`, `tokenizer.json`
    /// and `model.safetensors` must be there; the others may be missing.
    ///
    /// # Errors
    /// A needed file is missing or cannot be read, a JSON file is not an object, the weights are
    /// split over several files, or [`Safetensors::open`] refuses them.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let config = read_object(path, "config.json")?.ok_or_else(|| {
            FormatError::not_a_model(path, "the directory has no config.json, so it is no model")
        })?;
        if !path.join("tokenizer.json").is_file() {
            return Err(FormatError::not_a_model(
                path,
                "the directory has no tokenizer.json, which text is turned into tokens with",
            ));
        }
        let weights = path.join(WEIGHTS);
        if !weights.exists() {
            return Err(no_weights(path));
        }
        let tokenizer_config = read_object(path, "tokenizer_config.json")?;
        let generation_config = read_object(path, "generation_config.json")?;
        Ok(Self {
            chat_template: chat_template(path, tokenizer_config.as_ref())?,
            weights: Safetensors::open(&weights)?,
            path: path.to_owned(),
            config,
            tokenizer_config,
            generation_config,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`, an object: family, dimensions, hyperparameters.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `tokenizer_config.json`, an object: special tokens, chat template.
    pub fn tokenizer_config(&self) -> Option<&Value> {
        self.tokenizer_config.as_ref()
    }

    /// `generation_config.json`, an object: end-of-text tokens, sampling defaults.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// The chat template: `chat_template.jinja`, or else what `tokenizer_config.json` has, of
    /// several the one called `default`.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Where `tokenizer.json` is.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.path.join("tokenizer.json")
    }

    /// The content of `tokenizer.json`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tokenizer_json(&self) -> Result<Vec<u8>, FormatError> {
        let path = self.tokenizer_path();
        read(&path)?.ok_or_else(|| FormatError::not_a_model(&path, "the file is gone"))
    }

    /// The weights.
    pub fn weights(&self) -> &Safetensors {
        &self.weights
    }
}

fn no_weights(path: &Path) -> FormatError {
    if path.join(WEIGHTS_INDEX).exists() {
        return FormatError::unsupported(
            path,
            "the weights are split over several files, and only a single model.safetensors is \
             supported",
        );
    }
    FormatError::not_a_model(path, "the directory has no model.safetensors")
}

/// The template that a chat is rendered with, if the model has one.
fn chat_template(path: &Path, config: Option<&Value>) -> Result<Option<String>, FormatError> {
    let file = path.join("chat_template.jinja");
    if let Some(bytes) = read(&file)? {
        return String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| FormatError::malformed(&file, "the template is not valid UTF-8"));
    }
    match config.and_then(|config| config.get("chat_template")) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(templates)) => Ok(default_template(templates)),
        Some(_) => Err(FormatError::key(
            &path.join("tokenizer_config.json"),
            "chat_template",
            "must be a template or a list of named templates",
        )),
    }
}

/// Of a list of `{name, template}`, the template called `default`, or the only one.
fn default_template(templates: &[Value]) -> Option<String> {
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let only = || (templates.len() == 1).then(|| &templates[0]);
    let chosen = templates.iter().find(named).or_else(only)?;
    chosen.get("template")?.as_str().map(str::to_owned)
}

/// The JSON object in the file `name`, if the file is there.
fn read_object(directory: &Path, name: &str) -> Result<Option<Value>, FormatError> {
    let path = directory.join(name);
    let Some(bytes) = read(&path)? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(object @ Value::Object(_)) => Ok(Some(object)),
        Ok(_) => Err(FormatError::malformed(
            &path,
            "the file must hold a JSON object",
        )),
        Err(error) => Err(FormatError::malformed(
            &path,
            format!("the file is not valid JSON: {error}"),
        )),
    }
}

/// The content of a file, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, FormatError> {
    let io = |source| FormatError::io(path, "cannot be read", source);
    let kind = match std::fs::metadata(path) {
        Ok(kind) => kind,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    // Asked before opening, because opening a pipe without a writer waits for ever.
    if !kind.is_file() {
        return Err(FormatError::not_a_model(path, "is not a regular file"));
    }
    if kind.len() > MAX_TEXT_BYTES {
        return Err(FormatError::malformed(
            path,
            format!(
                "the file has {} bytes, and {MAX_TEXT_BYTES} is the most",
                kind.len()
            ),
        ));
    }
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT_BYTES)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    Ok(Some(bytes))
}
