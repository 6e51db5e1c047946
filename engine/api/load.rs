//! Putting an engine together from a model file.

use std::sync::{Arc, OnceLock};

use onward_kernels::Backend;
use onward_kernels::ops::sample::SamplingParams;
use onward_tokenizer::Tokenizer;

use super::engine::Engine;
use super::info::ModelInfo;
use super::memory;
use crate::error::{Error, Result};
use crate::formats::ModelFile;
use crate::model::{Loader, Model, ModelConfig, Room, Runner, vocabulary};
use crate::schedule::{Limits, Scheduler};

/// Sizes that are fixed when a model is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Positions a sequence may reach; `None` for what the model was trained for.
    pub n_ctx: Option<usize>,
    /// Sequences that can be held at once.
    pub n_sequences: usize,
    /// The most tokens of one forward pass; longer prompts are processed in pieces.
    pub chunk: usize,
    /// The most prompt tokens of a pass in which other sequences write: what a long prompt may
    /// cost them between two of their tokens.
    pub beside_decode: usize,
    /// Tokens that the KV cache holds, of all sequences together and of texts that may come again;
    /// `None` for as many as all sequences can have.
    pub cache_tokens: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            n_ctx: None,
            n_sequences: 1,
            chunk: 512,
            beside_decode: 256,
            cache_tokens: None,
        }
    }
}

impl EngineOptions {
    /// Positions a sequence may reach.
    pub fn context(&self, config: &ModelConfig) -> usize {
        self.n_ctx.unwrap_or(config.n_ctx_train)
    }

    pub(super) fn check(&self, config: &ModelConfig) -> Result<()> {
        let n_ctx = self.context(config);
        for (what, value, limit) in [
            ("context size", n_ctx, 1 << 24),
            ("number of sequences", self.n_sequences, 1 << 16),
            ("chunk of tokens", self.chunk, 1 << 16),
            ("share of a prompt", self.beside_decode, 1 << 16),
            ("KV cache", self.cache_tokens.unwrap_or(1), 1 << 40),
        ] {
            if value == 0 || value > limit {
                return Err(Error::Request(format!(
                    "the {what} is {value}; 1 to {limit} is possible"
                )));
            }
        }
        Ok(())
    }
}

/// How far loading has come.
#[derive(Clone, Copy, Debug)]
pub struct Loading {
    /// Bytes of weights taken over.
    pub done_bytes: usize,
    /// All of them.
    pub total_bytes: usize,
}

impl Engine {
    /// Loads a model onto a backend.
    ///
    /// # Errors
    /// A file that is no model, a model of an unsupported kind, or too little memory.
    pub fn load<B: Backend>(
        file: &ModelFile,
        backend: B,
        options: &EngineOptions,
        progress: &mut dyn FnMut(Loading),
    ) -> Result<Self> {
        let config = ModelConfig::from_file(file)?;
        options.check(&config)?;
        let loader = Loader::for_file(file, &config)?;
        let room = memory::room(&config, options);
        let shape = memory::shape(&loader, &config, &room)?;
        let memory = backend.plan(&shape);
        memory::check(&backend, &loader, &config, options, &memory)?;
        let total_bytes = loader.file_bytes();
        let mut report = |done_bytes| {
            progress(Loading {
                done_bytes,
                total_bytes,
            });
        };
        // A vocabulary takes as long to prepare as a few hundred megabytes of weights.
        let (tokenizer, weights) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| vocabulary::tokenizer_from_file(file));
            let weights = loader.load(&backend, &mut report);
            let tokenizer = tokenizer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (tokenizer, weights)
        });
        let (tokenizer, weights) = (tokenizer?, weights?);
        check_vocabulary(file, &config, &tokenizer)?;

        // What is on its way is there once, before what loading needs is given back.
        backend.reserve(&shape)?;
        let model = Model::new(backend, config.clone(), weights, &room)?;
        let limits = limits(options, &room, model.run_ahead());
        Ok(Engine {
            // The last page is the decoder's.
            scheduler: Scheduler::new(limits, room.kv.n_pages - 1),
            memory,
            runner: Box::new(model),
            info: Arc::new(ModelInfo {
                grammars: OnceLock::new(),
                n_ctx: options.context(&config),
                stop_ids: vocabulary::stop_ids(file, &tokenizer),
                chat_template: vocabulary::chat_template(file, &tokenizer)?,
                default_sampling: default_sampling(file)?,
                tokenizer,
                config,
            }),
        })
    }
}

/// What is done at once. Nobody is refused here: a [`Service`](super::Service) knows when to.
fn limits(options: &EngineOptions, room: &Room, run_ahead: usize) -> Limits {
    Limits {
        n_slots: options.n_sequences,
        max_rows: room.max_rows,
        beside_decode: options.beside_decode,
        n_ctx: room.decode.n_ctx,
        max_queue: usize::MAX / 2,
        run_ahead,
    }
}

/// A token without an embedding could be asked for, but never computed.
fn check_vocabulary(file: &ModelFile, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<()> {
    if tokenizer.vocab_size() > config.vocab_size {
        return Err(Error::model(
            file.path(),
            format!(
                "the vocabulary has {} tokens, but the embedding table only {} rows",
                tokenizer.vocab_size(),
                config.vocab_size
            ),
        ));
    }
    Ok(())
}

/// The sampling that the model's authors recommend in `generation_config.json`, on top of the
/// usual defaults.
fn default_sampling(file: &ModelFile) -> Result<SamplingParams> {
    let mut sampling = SamplingParams::default();
    let ModelFile::Hub(directory) = file else {
        return Ok(sampling);
    };
    let Some(config) = directory.generation_config() else {
        return Ok(sampling);
    };
    let number = |key: &str| config.get(key).and_then(serde_json::Value::as_f64);
    if let Some(temperature) = number("temperature") {
        sampling.temperature = temperature as f32;
    }
    if let Some(top_p) = number("top_p") {
        sampling.top_p = top_p as f32;
    }
    if let Some(top_k) = number("top_k") {
        sampling.top_k = top_k as usize;
    }
    if let Some(penalty) = number("repetition_penalty") {
        sampling.repeat_penalty = penalty as f32;
    }
    sampling.validate().map_err(|error| {
        Error::model(
            &directory.path().join("generation_config.json"),
            error.to_string(),
        )
    })?;
    Ok(sampling)
}
