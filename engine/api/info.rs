//! What is known of a loaded model, and which requests it can serve.

use onward_kernels::ops::sample::SamplingParams;
use onward_tokenizer::{ChatTemplate, Tokenizer};

use super::request::Request;
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// What is known of a loaded model without asking the device.
pub struct ModelInfo {
    /// The model's shape.
    pub config: ModelConfig,
    /// The model's vocabulary.
    pub tokenizer: Tokenizer,
    /// How the model wants conversations written, if its file says.
    pub chat_template: Option<ChatTemplate>,
    /// Tokens with which the model ends a text.
    pub stop_ids: Vec<u32>,
    /// The sampling the model's authors recommend, or the usual one.
    pub default_sampling: SamplingParams,
    /// Positions a sequence may reach.
    pub n_ctx: usize,
}

impl ModelInfo {
    /// Whether the request can be served as it stands.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::ContextFull`] otherwise.
    pub fn check(&self, request: &Request) -> Result<()> {
        request.sampling.validate()?;
        self.check_ids(&request.prompt)?;
        self.check_room("the prompt", request.prompt.len())?;
        if request.stop.iter().any(String::is_empty) {
            return Err(Error::Request("a stop text is empty".to_owned()));
        }
        let vocab = self.config.vocab_size;
        if request.top_logprobs > vocab {
            return Err(Error::Request(format!(
                "{} alternatives are asked for, but the vocabulary has {vocab} tokens",
                request.top_logprobs
            )));
        }
        match request
            .sampling
            .logit_bias
            .iter()
            .find(|(id, _)| *id as usize >= vocab)
        {
            Some((id, _)) => Err(self.unknown_id(*id)),
            None => Ok(()),
        }
    }

    pub(super) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::Request(
                "the prompt is empty, and this model has no token to begin a text with".to_owned(),
            ));
        }
        match ids
            .iter()
            .find(|&&id| id as usize >= self.config.vocab_size)
        {
            Some(&id) => Err(self.unknown_id(id)),
            None => Ok(()),
        }
    }

    fn unknown_id(&self, id: u32) -> Error {
        Error::Request(format!(
            "token {id} is beyond the vocabulary of {}",
            self.config.vocab_size
        ))
    }

    pub(super) fn check_room(&self, what: &'static str, needed: usize) -> Result<()> {
        if needed > self.n_ctx {
            return Err(Error::ContextFull {
                what,
                needed,
                n_ctx: self.n_ctx,
            });
        }
        Ok(())
    }
}
