//! The readers of model files: what they find in sound ones, and what they say of others.

mod broken;
mod gguf;
mod hub;
mod memory;

use std::path::PathBuf;

/// A directory with `bytes` in it as `name`, and the file's path.
fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (directory, path)
}
