//! What can go wrong between a model file and its text.

use std::path::PathBuf;

use crate::formats::FormatError;

/// The result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine: one sentence that names the file, the tensor or the parameter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not what it claims to be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The file is well formed but does not describe a model this engine can run.
    #[error("{}: {detail}", path.display())]
    Model {
        /// The model's file or directory.
        path: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// The vocabulary, the text or the chat template.
    #[error(transparent)]
    Tokenizer(#[from] onward_tokenizer::TokenizerError),
    /// A model that is larger than what its device has free.
    #[error("{0}")]
    TooLittleMemory(String),
    /// An operation or a device.
    #[error(transparent)]
    Kernel(#[from] onward_kernels::Error),
    /// A request that cannot be served as it stands.
    #[error("{0}")]
    Request(String),
    /// A service that has failed, and why.
    #[error("{0}")]
    Failed(String),
    /// More tokens than the context holds.
    #[error(
        "{what} needs {needed} positions, but the context holds {n_ctx}; a larger one is set with --ctx-size"
    )]
    ContextFull {
        /// What asked for the room.
        what: &'static str,
        /// Positions asked for.
        needed: usize,
        /// Positions there are.
        n_ctx: usize,
    },
}

impl Error {
    /// A [`Error::Model`] about the file at `path`.
    pub(crate) fn model(path: &std::path::Path, detail: impl Into<String>) -> Self {
        Self::Model {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }
}
