//! What a model is: its shape ([`config`]), its weights and the forward pass over them.

pub mod config;
mod forward;
mod gguf;
mod hub;
mod names;
mod rope;
pub mod vocabulary;
mod weights;

pub use config::ModelConfig;
pub(crate) use forward::{Model, Room, Runner};
pub(crate) use weights::Loader;

use crate::error::Result;
use crate::formats::ModelFile;
use names::Naming;

impl ModelConfig {
    /// Reads the model's shape from its file.
    ///
    /// # Errors
    /// An unsupported family, a missing or mistyped key, or shapes that do not fit.
    pub fn from_file(file: &ModelFile) -> Result<Self> {
        match file {
            ModelFile::Gguf(file) => gguf::config(file),
            ModelFile::Hub(directory) => hub::config(directory),
        }
    }
}

impl<'a> Loader<'a> {
    /// A loader for either kind of file; see [`Loader::new`].
    pub(crate) fn for_file(file: &'a ModelFile, config: &'a ModelConfig) -> Result<Self> {
        let naming = match file {
            ModelFile::Gguf(_) => Naming::Gguf,
            ModelFile::Hub(_) => Naming::Hub {
                post_norms: config.layers.iter().any(|layer| layer.post_norms),
            },
        };
        Self::new(file.tensors(), naming, config)
    }
}
