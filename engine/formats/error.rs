//! What can be wrong with a model file.

use std::path::{Path, PathBuf};

/// A model file that cannot be used: one sentence that names the file, and the key or tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system would not let the file be read.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// What lies there is not a model file.
    #[error("{}: {detail}", path.display())]
    NotAModel {
        /// The file or directory.
        path: PathBuf,
        /// What it is, and what is wanted.
        detail: String,
    },
    /// The file breaks the rules of its format.
    #[error("{}: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is broken, and where.
        detail: String,
    },
    /// The file is sound, but needs something that is not supported.
    #[error("{}: {detail}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it needs.
        detail: String,
    },
    /// A metadata entry that is missing or not of the kind it must be.
    #[error("{}: key {key} {detail}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A tensor whose description does not hold.
    #[error("{}: tensor {tensor} {detail}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl FormatError {
    pub(super) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }

    pub(super) fn not_a_model(path: &Path, detail: impl Into<String>) -> Self {
        Self::NotAModel {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }

    pub(super) fn malformed(path: &Path, detail: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }

    pub(super) fn unsupported(path: &Path, detail: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }

    pub(super) fn key(path: &Path, key: &str, detail: impl Into<String>) -> Self {
        Self::Key {
            path: path.to_owned(),
            key: printable(key),
            detail: detail.into(),
        }
    }

    pub(super) fn tensor(path: &Path, tensor: &str, detail: impl Into<String>) -> Self {
        Self::Tensor {
            path: path.to_owned(),
            tensor: printable(tensor),
            detail: detail.into(),
        }
    }
}

/// Characters of a name out of a file that a message repeats.
const SHOWN_CHARS: usize = 80;

/// A name out of a file as a message may show it: on one line, without control characters, and
/// of a bounded length.
pub(super) fn printable(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let ellipsis = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{ellipsis}", shown.escape_debug())
}
