//! Model files: GGUF, and directories as the Hub lays them out (safetensors and JSON).
//!
//! A reader here takes a file that nobody vouches for and either refuses it with one sentence
//! ([`FormatError`]) or hands out views whose names, shapes, formats and byte ranges have been
//! checked against each other and against the file's size. What the tensors and keys *mean* to
//! a model is judged one floor up.
//!
//! Files are memory-mapped: opening reads the header only, and a tensor's bytes are read when
//! they are touched. A file that another process truncates while it is mapped ends this process
//! with SIGBUS; nothing in user space can prevent that short of copying the file.

mod directory;
mod error;
pub mod gguf;
mod mapped;
mod safetensors;
mod sniff;
mod table;
mod view;

use std::path::Path;

pub use directory::HubDirectory;
pub use error::FormatError;
pub use gguf::Gguf;
pub use safetensors::Safetensors;
pub use view::{TensorSource, TensorView};

/// A model as it lies on the disk.
#[derive(Debug)]
pub enum ModelFile {
    /// One GGUF file.
    Gguf(Gguf),
    /// A directory with `config.json`, `tokenizer.json` and `model.safetensors`.
    Hub(HubDirectory),
}

impl ModelFile {
    /// Opens `path`, deciding by what is there and not by its name: a directory is read as the
    /// Hub lays it out, a file must be GGUF.
    ///
    /// # Errors
    /// Nothing there, something that is not a model (an HTML page, a Git LFS pointer, a legacy
    /// GGML file, a PyTorch checkpoint …), or a model that is damaged or not supported.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        if path.is_dir() {
            HubDirectory::open(path).map(Self::Hub)
        } else {
            Gguf::open(path).map(Self::Gguf)
        }
    }

    /// The path that the model was opened by.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(gguf) => gguf.path(),
            Self::Hub(directory) => directory.path(),
        }
    }

    /// The weights, wherever they come from.
    pub fn tensors(&self) -> &dyn TensorSource {
        match self {
            Self::Gguf(gguf) => gguf,
            Self::Hub(directory) => directory.weights(),
        }
    }
}
