//! GGUF, versions 2 and 3, little-endian.
//!
//! A file is: magic `GGUF`, version (u32), number of tensors (u64), number of metadata pairs
//! (u64); the pairs (key, value type, value); the tensor table (name, dimensions innermost
//! first, type, offset into the data section); padding to `general.alignment` (32 unless told);
//! the data section. Source: the GGUF specification in ggml's documentation.
//!
//! Nothing that the file claims is believed before it is checked: numbers are combined with
//! checked arithmetic, counts are capped by the bytes that are left, and memory is only taken
//! for what has been seen in the file. The limits below bound the work that a hostile file can
//! cause; they are an order of magnitude above what real models need.

mod cursor;
mod header;
mod tensors;
mod typed;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use onward_kernels::Format;

use super::mapped::MappedFile;
use super::table::TensorTable;
use super::{FormatError, TensorSource, TensorView};
pub use typed::StringArray;
pub use value::{Array, Value, ValueType};

/// Most bytes before the data section. A quarter of a million tokens take some seven million.
pub const MAX_HEADER_BYTES: usize = 1 << 26;
/// Most metadata pairs in a file.
pub const MAX_METADATA: u64 = 1 << 14;
/// Most tensors in a file.
pub const MAX_TENSORS: u64 = 1 << 16;
/// Most elements in a metadata array (the largest vocabularies have a quarter of a million).
pub const MAX_ARRAY: u64 = 1 << 21;
/// Longest metadata key, in bytes; the specification's limit.
pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;
/// Longest string value outside an array, in bytes.
pub const MAX_STRING_BYTES: u64 = 1 << 20;
/// Longest tensor name, in bytes.
pub const MAX_NAME_BYTES: u64 = 256;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    file: MappedFile,
    version: u32,
    alignment: u64,
    metadata: Vec<(String, Value)>,
    keys: HashMap<String, usize>,
    tensors: TensorTable,
}

impl Gguf {
    /// Maps the file and checks its header, metadata and tensor table; the weights themselves
    /// are not read.
    ///
    /// # Errors
    /// A file that cannot be read, is not GGUF, breaks the format's rules, is cut short, is one
    /// part of a split model, or holds a tensor of a type that is not supported.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let file = MappedFile::open(path)?;
        let (head, mut cursor) = header::read(&file)?;
        let (metadata, keys) = value::read_metadata(&mut cursor, head.n_metadata)?;
        header::refuse_split(path, &metadata)?;
        let alignment = header::alignment(path, &metadata)?;
        let tensors = tensors::read(&mut cursor, head.n_tensors, alignment)?;
        Ok(Self {
            version: head.version,
            alignment,
            metadata,
            keys,
            tensors,
            file,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Bytes that every tensor's offset is a multiple of.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Keys and values, in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|&index| &self.metadata[index].1)
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        let file = self.file.bytes();
        self.tensors.iter().map(|tensor| tensor.view(file))
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let tensor = self.tensors.get(name)?;
        Some(tensor.view(self.file.bytes()))
    }

    /// Bytes of weights in each format.
    pub fn tensor_bytes_by_format(&self) -> BTreeMap<Format, u64> {
        self.tensors.bytes_by_format()
    }
}

impl TensorSource for Gguf {
    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        Gguf::tensor(self, name)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.iter().map(|tensor| tensor.name.as_str()))
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn release(&self, data: &[u8]) {
        self.file.release(data);
    }
}
