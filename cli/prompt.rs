//! From text to what the model sees.

use std::path::Path;

use anyhow::Context;
use onward_engine::Engine;
use onward_tokenizer::{ChatTemplate, Tokenizer};

use crate::args::TemplateArgs;
use crate::text::read_file;

/// The ids of a prompt: with the beginning-of-sequence token where the model wants one, and once
/// where the text begins with it already, as chat templates make it do.
pub(crate) fn prompt_ids(tokenizer: &Tokenizer, text: &str) -> anyhow::Result<Vec<u32>> {
    Ok(tokenizer.encode(text, tokenizer.adds_bos())?)
}

/// The chat template in a file.
///
/// # Errors
/// If it cannot be read, or is no template.
pub(crate) fn template_of(path: &Path, tokenizer: &Tokenizer) -> anyhow::Result<ChatTemplate> {
    let source = read_file(path)?;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    let bos = text(tokenizer.bos()).unwrap_or_default();
    let eos = text(tokenizer.eos()).unwrap_or_default();
    ChatTemplate::new(&source, &bos, &eos).with_context(|| format!("cannot use {}", path.display()))
}

/// The chat template to use: one from a file, or the model's own.
pub(crate) struct Template {
    from_file: Option<ChatTemplate>,
}

impl Template {
    /// The template that `args` names, else the model's own.
    ///
    /// # Errors
    /// If there is none, or it is no template.
    pub(crate) fn load(engine: &Engine, args: &TemplateArgs) -> anyhow::Result<Self> {
        let path = args.chat_template.as_deref();
        let from_file = path
            .map(|path| template_of(path, engine.tokenizer()))
            .transpose()?;
        let template = Self { from_file };
        template.get(engine)?;
        Ok(template)
    }

    /// The template itself.
    ///
    /// # Errors
    /// If `engine` has none and no file named another.
    pub(crate) fn get<'a>(&'a self, engine: &'a Engine) -> anyhow::Result<&'a ChatTemplate> {
        self.from_file
            .as_ref()
            .or_else(|| engine.chat_template())
            .context(
                "this model has no chat template, so it was hardly trained to converse: \
                 use `onward generate`, or give a template with --chat-template",
            )
    }
}
