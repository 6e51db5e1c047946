//! What is known of a loaded model, and which requests it can serve.

use std::sync::OnceLock;

use onward_kernels::ops::sample::SamplingParams;
use onward_tokenizer::{ChatTemplate, Tokenizer};

use super::request::Request;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::sample::{Grammars, Guide};

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
    /// Made when the first grammar comes: it takes a while.
    pub(crate) grammars: OnceLock<Grammars>,
}

impl ModelInfo {
    /// Whether the request can be served as it stands; what its constraint allows is found out
    /// when it is compiled.
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
        if request.constraint.is_some() && request.ignore_eos {
            let detail = "a text under a grammar ends where the grammar does, so that the end of \
                          the text cannot be ignored";
            return Err(Error::Request(detail.to_owned()));
        }
        if let Some(thinking) = &request.thinking {
            if thinking.end.is_empty() {
                let detail = "a thought that is to end needs tokens that end it";
                return Err(Error::Request(detail.to_owned()));
            }
            self.check_vocabulary(thinking.end.iter())?;
        }
        self.check_vocabulary(request.sampling.logit_bias.iter().map(|(id, _)| id))
    }

    /// The request's constraint, compiled.
    ///
    /// # Errors
    /// [`Error::Request`] with what is wrong with it.
    pub(crate) fn guide(&self, request: &Request) -> Result<Option<Guide>> {
        let Some(constraint) = &request.constraint else {
            return Ok(None);
        };
        let grammars = match self.grammars.get() {
            Some(grammars) => grammars,
            None => {
                let vocab = self.config.vocab_size;
                let made = Grammars::new(&self.tokenizer, &self.stop_ids, vocab)?;
                self.grammars.get_or_init(|| made)
            }
        };
        grammars.compile(constraint).map(Some)
    }

    pub(super) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::Request(
                "the prompt is empty, and this model has no token to begin a text with".to_owned(),
            ));
        }
        self.check_vocabulary(ids.iter())
    }

    fn check_vocabulary<'a>(&self, mut ids: impl Iterator<Item = &'a u32>) -> Result<()> {
        let vocab = self.config.vocab_size;
        match ids.find(|&&id| id as usize >= vocab) {
            Some(id) => Err(Error::Request(format!(
                "token {id} is beyond the vocabulary of {vocab}"
            ))),
            None => Ok(()),
        }
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
