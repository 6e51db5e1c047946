//! Regular files as read-only memory maps.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};

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

    /// Lets the system take back the memory behind `part` of the file; read again, it comes from
    /// the page cache. Without this a model being loaded would take its size twice.
    pub(super) fn release(&self, part: &[u8]) {
        let start = (part.as_ptr() as usize).wrapping_sub(self.map.as_ptr() as usize);
        if start
            .checked_add(part.len())
            .is_none_or(|end| end > self.map.len())
        {
            return;
        }
        // SAFETY: dropping pages of a read-only mapping of a file changes none of its bytes.
        let released = unsafe {
            self.map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, start, part.len())
        };
        if let Err(error) = released {
            tracing::debug!("{}: pages were not released: {error}", self.path.display());
        }
    }
}
