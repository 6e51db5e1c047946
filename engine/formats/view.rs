//! A tensor in a mapped file, and where tensors come from.

use std::path::Path;

use onward_kernels::Format;

/// A tensor's description and its bytes, which stay in the file's mapping.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// How the weights are encoded.
    pub format: Format,
    /// Dimensions, outermost first: a matrix is `[rows, cols]` and its rows are contiguous. For
    /// GGUF, whose files list the innermost dimension first, this is the reverse of the file.
    pub shape: Vec<usize>,
    /// The encoded weights; exactly as many bytes as shape and format make.
    pub data: &'a [u8],
}

/// A file that weights are read from.
pub trait TensorSource: Send + Sync {
    /// The tensor of that name.
    fn tensor(&self, name: &str) -> Option<TensorView<'_>>;

    /// The names of all tensors, in the order of the file.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The file, for messages.
    fn path(&self) -> &Path;

    /// Says that a tensor's bytes have been taken over and need not stay in memory.
    fn release(&self, data: &[u8]);
}
