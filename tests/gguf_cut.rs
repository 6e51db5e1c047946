//! A real model with most of its layers left out: small enough for a device on which the whole one
//! takes too long, with real weights, formats and vocabulary all the same.

use std::path::Path;

use crate::gguf_file::{GgufFile, Meta, TensorSpec};

/// Bytes of a sound GGUF file, read from the front.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn string(&mut self) -> String {
        let n = self.u64() as usize;
        String::from_utf8(self.take(n).to_vec()).unwrap()
    }

    /// Goes past a value of this type.
    fn skip(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => _ = self.take(1),
            2 | 3 => _ = self.take(2),
            4..=6 => _ = self.take(4),
            8 => _ = self.string(),
            9 => {
                let (element, n) = (self.u32(), self.u64());
                (0..n).for_each(|_| self.skip(element));
            }
            _ => _ = self.take(8),
        }
    }
}

/// The first `n_layers` layers of the model at `path`, and what is not in a layer.
///
/// # Panics
/// If the file is not a sound GGUF file.
pub fn first_layers(path: &Path, n_layers: u32) -> GgufFile {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = Reader {
        bytes: &bytes,
        at: 8,
    };
    let (n_tensors, n_metadata) = (reader.u64(), reader.u64());
    let mut cut = GgufFile::default();
    for _ in 0..n_metadata {
        let (key, kind) = (reader.string(), reader.u32());
        let start = reader.at;
        reader.skip(kind);
        let value = match key.ends_with(".block_count") {
            true => Meta::U32(n_layers),
            false => Meta::Raw(kind, bytes[start..reader.at].to_vec()),
        };
        cut.metadata.push((key, value));
    }
    let mut places: Vec<(TensorSpec, usize)> = (0..n_tensors)
        .map(|_| {
            let (name, n_dims) = (reader.string(), reader.u32());
            let tensor = TensorSpec {
                name,
                dims: (0..n_dims).map(|_| reader.u64()).collect(),
                ggml_type: reader.u32(),
                data: Vec::new(),
                offset: None,
            };
            (tensor, reader.u64() as usize)
        })
        .collect();
    let data = &bytes[reader.at.next_multiple_of(cut.alignment)..];
    places.sort_by_key(|&(_, offset)| offset);
    let ends = places.iter().skip(1).map(|&(_, offset)| offset);
    let ends: Vec<usize> = ends.chain([data.len()]).collect();
    for ((mut tensor, offset), end) in places.into_iter().zip(ends) {
        let layer = tensor.name.strip_prefix("blk.");
        let layer = layer.and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        if layer.is_none_or(|layer| layer < n_layers) {
            tensor.data = data[offset..end].to_vec();
            cut.tensors.push(tensor);
        }
    }
    cut
}
