//! Safetensors files: the length of a JSON header (u64), the header, then the tensors.

use std::collections::BTreeMap;
use std::path::Path;

use onward_kernels::Format;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::mapped::MappedFile;
use super::table::{Tensor, TensorTable};
use super::{FormatError, TensorSource, TensorView};

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;
/// Longest header, in bytes: some 150 for each of 28 thousand tensors.
const MAX_HEADER_BYTES: u64 = 1 << 22;

/// An open safetensors file whose tensors are all F32, F16 or BF16.
#[derive(Debug)]
pub struct Safetensors {
    file: MappedFile,
    tensors: TensorTable,
}

impl Safetensors {
    /// Maps the file and checks its header; the weights themselves are not read.
    ///
    /// # Errors
    /// A file that cannot be read, breaks the format's rules, is cut short, or holds a tensor of
    /// a type other than F32, F16 and BF16.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let file = MappedFile::open(path)?;
        let (header, data_start) = read_header(&file)?;
        let tensors = header
            .offset_keys()
            .into_iter()
            .filter_map(|name| header.info(&name).map(|info| (name.clone(), info)))
            .map(|(name, info)| place(path, name, info, data_start))
            .collect::<Result<_, _>>()?;
        let tensors = TensorTable::new(tensors)
            .map_err(|name| FormatError::tensor(path, &name, "is listed twice"))?;
        Ok(Self { file, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The tensors, in the order of their bytes.
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

impl TensorSource for Safetensors {
    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        Safetensors::tensor(self, name)
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

/// The header, and where the tensors begin. The header's own parser has seen to it that every
/// tensor is as long as its shape and type make it and that they follow one another without a
/// gap; that they are all in the file is checked here.
fn read_header(file: &MappedFile) -> Result<(Metadata, usize), FormatError> {
    let (path, bytes) = (file.path(), file.bytes());
    let malformed = |detail: String| FormatError::malformed(path, detail);
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(malformed(
            "the file ends inside its first eight bytes".to_owned(),
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(malformed(format!(
            "the header claims to be {length} bytes long, and {MAX_HEADER_BYTES} is the most"
        )));
    }
    let length = length as usize;
    let header = rest.get(..length).ok_or_else(|| {
        malformed(format!(
            "the header claims to be {length} bytes long, and {} are left in the file",
            rest.len()
        ))
    })?;
    let header: Metadata = serde_json::from_slice(header)
        .map_err(|error| malformed(format!("the header cannot be used: {error}")))?;
    let (described, held) = (header.data_len(), rest.len() - length);
    if described != held {
        return Err(malformed(format!(
            "the header describes {described} bytes of tensors and the file holds {held}: is the \
             download complete?"
        )));
    }
    Ok((header, LENGTH_BYTES + length))
}

fn place(
    path: &Path,
    name: String,
    info: &TensorInfo,
    data_start: usize,
) -> Result<Tensor, FormatError> {
    let refuse = |detail: String| FormatError::tensor(path, &name, detail);
    let format = match info.dtype {
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::Bf16,
        other => {
            return Err(refuse(format!(
                "has the type {other}, and only F32, F16 and BF16 are supported"
            )));
        }
    };
    if info.shape.is_empty() || info.shape.contains(&0) {
        return Err(refuse(format!(
            "has no weights in the shape {:?}",
            info.shape
        )));
    }
    let (start, end) = info.data_offsets;
    Ok(Tensor {
        format,
        shape: info.shape.clone(),
        bytes: data_start + start..data_start + end,
        name,
    })
}
