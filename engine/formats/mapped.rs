//! Regular files as read-only memory maps.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::FormatError;

/// A file and its mapping.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a file that must be regular and not empty.
    pub(super) fn open(path: &Path) -> Result<Self, FormatError> {
        // Asked before opening, because opening a pipe without a writer waits for ever.
        let kind = std::fs::metadata(path)
            .map_err(|source| FormatError::io(path, "cannot be read", source))?;
        if !kind.is_file() {
            let detail = if kind.is_dir() {
                "is a directory, and a file is needed here"
            } else {
                "is not a regular file, so it cannot be mapped into memory"
            };
            return Err(FormatError::not_a_model(path, detail));
        }
        if kind.len() == 0 {
            return Err(FormatError::not_a_model(path, "the file is empty"));
        }
        let file =
            File::open(path).map_err(|source| FormatError::io(path, "cannot be opened", source))?;
        // SAFETY: the mapping is read-only and private to this process. The one promise that
        // cannot be kept from here is that no other process changes or truncates the file; the
        // module documentation says what happens then.
        let map = unsafe { Mmap::map(&file) }
            .map_err(|source| FormatError::io(path, "cannot be mapped into memory", source))?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }
}
