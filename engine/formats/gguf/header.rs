//! The fixed header and the keys that say how the rest of the file is to be read.

use std::path::Path;

use super::cursor::Cursor;
use super::value::Value;
use crate::formats::mapped::MappedFile;
use crate::formats::{FormatError, sniff};

const MAGIC: &[u8] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;

/// The fixed header.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) n_tensors: u64,
    pub(super) n_metadata: u64,
}

/// Reads the header; the cursor stands at the first metadata pair afterwards.
pub(super) fn read(file: &MappedFile) -> Result<(Header, Cursor<'_>), FormatError> {
    let (path, bytes) = (file.path(), file.bytes());
    if !bytes.starts_with(MAGIC) {
        return Err(FormatError::not_a_model(path, sniff::describe(bytes)));
    }
    let mut cursor = Cursor::new(path, bytes, MAGIC.len());
    let version = cursor.u32("the version number")?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => {
            return Err(FormatError::unsupported(
                path,
                "this GGUF file is big-endian, and only little-endian files are supported",
            ));
        }
        _ => {
            return Err(FormatError::unsupported(
                path,
                format!("GGUF version {version} is not supported, only 2 and 3 are"),
            ));
        }
    }
    let header = Header {
        version,
        n_tensors: cursor.u64("the number of tensors")?,
        n_metadata: cursor.u64("the number of metadata pairs")?,
    };
    Ok((header, cursor))
}

/// The alignment of the data section: `general.alignment`, or 32.
pub(super) fn alignment(path: &Path, metadata: &[(String, Value)]) -> Result<u64, FormatError> {
    const KEY: &str = "general.alignment";
    let Some(value) = find(metadata, KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let alignment = value
        .integer()
        .and_then(|number| u64::try_from(number).ok());
    alignment
        .filter(|a| a.is_power_of_two() && (8..=1 << 16).contains(a))
        .ok_or_else(|| {
            let detail = format!("is {value}, and must be a power of two from 8 to 65536");
            FormatError::key(path, KEY, detail)
        })
}

/// Refuses a file that is one part of several.
pub(super) fn refuse_split(path: &Path, metadata: &[(String, Value)]) -> Result<(), FormatError> {
    let parts = find(metadata, "split.count").and_then(Value::integer);
    match parts {
        Some(parts) if parts > 1 => Err(FormatError::unsupported(
            path,
            format!("this is one of {parts} parts of a split model: merge them into one file"),
        )),
        _ => Ok(()),
    }
}

fn find<'a>(metadata: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    metadata
        .iter()
        .find_map(|(name, value)| (name == key).then_some(value))
}
