//! Broken model files, each a sound tiny model with one thing wrong.
//!
//! [`layout`] lies about bytes: lengths, counts, offsets, types, encodings. The reader must
//! refuse these. [`meaning`] is sound as a file and makes no sense as a model, and
//! [`templates`] are models whose chat templates mean harm.

pub mod layout;
pub mod meaning;
mod table;
pub mod templates;
mod vocabulary;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::gguf_file::GgufFile;

/// A file that must be refused in one sentence.
pub struct Broken {
    /// What is wrong, in a few words.
    pub name: String,
    /// The file's beginning.
    pub bytes: Vec<u8>,
    /// The file's length, where it goes on with zeros that take no room on the disk.
    pub len: Option<u64>,
    /// What the sentence must mention.
    pub says: String,
}

impl Broken {
    /// `file` as it was made wrong, and what the sentence must mention.
    fn new(name: impl Into<String>, file: &GgufFile, says: &str) -> Self {
        Self::of_bytes(name, file.bytes(), says)
    }

    fn of_bytes(name: impl Into<String>, bytes: Vec<u8>, says: &str) -> Self {
        Self {
            name: name.into(),
            bytes,
            len: None,
            says: says.to_owned(),
        }
    }

    /// Writes the file, in the place of any that is there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = fresh(path)?;
        file.write_all(&self.bytes)?;
        self.len.map_or(Ok(()), |len| file.set_len(len))
    }
}

/// `base` with one change made to it.
fn changed(base: &GgufFile, change: impl FnOnce(&mut GgufFile)) -> GgufFile {
    let mut file = base.clone();
    change(&mut file);
    file
}

/// A new file. One that is there is not truncated but removed: some file systems wait for the
/// disk when a truncated file is closed, and thousands of files are written here.
///
/// # Errors
/// The file cannot be made.
pub fn fresh(path: &Path) -> io::Result<File> {
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    File::create(path)
}
