//! Reading numbers and strings off the front of a byte slice.

use std::path::Path;

use super::MAX_HEADER_BYTES;
use crate::formats::FormatError;

/// A position in the file. Every read names what it was for, so that a file cut short says
/// where.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
    /// Where reading ends: the file's end, or the most that a header may take.
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8], position: usize) -> Self {
        Self {
            path,
            bytes,
            position,
            end: bytes.len().min(MAX_HEADER_BYTES),
        }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// Bytes from the beginning of the file to here.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The size of the whole file.
    pub(super) fn file_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn remaining(&self) -> usize {
        self.end.saturating_sub(self.position)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], FormatError> {
        if len > self.remaining() {
            return Err(self.cut_short(what));
        }
        let taken = &self.bytes[self.position..][..len];
        self.position += len;
        Ok(taken)
    }

    /// The next `N` bytes as an array, for `from_le_bytes`.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, FormatError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, FormatError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length in bytes (u64), at most `limit`, and that many bytes of UTF-8.
    pub(super) fn string(&mut self, limit: u64, what: &str) -> Result<&'a str, FormatError> {
        let start = self.position;
        let len = self.u64(what)?;
        if len > limit {
            return Err(self.malformed(format!(
                "{what} claims to be {len} bytes long, and {limit} is the most (at byte {start})"
            )));
        }
        let len = usize::try_from(len).map_err(|_| self.cut_short(what))?;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes)
            .map_err(|_| self.malformed(format!("{what} is not valid UTF-8 (at byte {start})")))
    }

    /// Refuses a count of things that is beyond `limit`, or of which, each being at least
    /// `min_bytes` long, there is no room for so many; `claimant` is what counts them.
    pub(super) fn count(
        &self,
        count: u64,
        limit: u64,
        min_bytes: usize,
        claimant: &str,
        things: &str,
    ) -> Result<usize, FormatError> {
        let refuse =
            |why: String| self.malformed(format!("{claimant} claims {count} {things}, {why}"));
        if count > limit {
            return Err(refuse(format!("and {limit} is the most")));
        }
        usize::try_from(count)
            .ok()
            .filter(|&count| {
                count
                    .checked_mul(min_bytes)
                    .is_some_and(|bytes| bytes <= self.remaining())
            })
            .ok_or_else(|| {
                refuse(format!(
                    "but only {} bytes are left of {}",
                    self.remaining(),
                    self.whole()
                ))
            })
    }

    pub(super) fn malformed(&self, detail: impl Into<String>) -> FormatError {
        FormatError::malformed(self.path, detail)
    }

    fn cut_short(&self, what: &str) -> FormatError {
        let hint = if self.end < self.bytes.len() {
            ""
        } else {
            ": is the download complete?"
        };
        self.malformed(format!(
            "{} ends inside {what}, {} bytes after byte {}{hint}",
            self.whole(),
            self.remaining(),
            self.position
        ))
    }

    /// What it is that ends where reading ends.
    fn whole(&self) -> String {
        if self.end < self.bytes.len() {
            format!("the {MAX_HEADER_BYTES} bytes that a header may take")
        } else {
            "the file".to_owned()
        }
    }
}
