//! The tensors of an open file, by place and by name.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use onward_kernels::Format;

use super::TensorView;

/// A tensor's description, checked against the file.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) format: Format,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    /// Where its bytes are in the file; inside it.
    pub(super) bytes: Range<usize>,
}

impl Tensor {
    /// The tensor's view of the file's bytes.
    pub(super) fn view<'a>(&'a self, file: &'a [u8]) -> TensorView<'a> {
        TensorView {
            name: &self.name,
            format: self.format,
            shape: self.shape.clone(),
            data: &file[self.bytes.clone()],
        }
    }
}

/// Tensors in the order of their file.
#[derive(Debug)]
pub(super) struct TensorTable {
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
}

impl TensorTable {
    /// A table of `tensors`, or the name that two of them have.
    pub(super) fn new(tensors: Vec<Tensor>) -> Result<Self, String> {
        let mut index = HashMap::with_capacity(tensors.len());
        for (place, tensor) in tensors.iter().enumerate() {
            if index.insert(tensor.name.clone(), place).is_some() {
                return Err(tensor.name.clone());
            }
        }
        Ok(Self { tensors, index })
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.tensors.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&place| &self.tensors[place])
    }

    pub(super) fn bytes_by_format(&self) -> BTreeMap<Format, u64> {
        let mut bytes = BTreeMap::new();
        for tensor in &self.tensors {
            *bytes.entry(tensor.format).or_default() += tensor.bytes.len() as u64;
        }
        bytes
    }
}
