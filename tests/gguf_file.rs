//! Writing GGUF files, sound ones and others.
//!
//! The writer knows no more than where each field goes. Whatever a [`GgufFile`] says is written
//! as it stands, so that a test can lie in any one place of an otherwise sound file.

/// A metadata value to write.
#[derive(Clone, Debug)]
pub enum Meta {
    /// Type 0.
    U8(u8),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8.
    Str(String),
    /// Type 10.
    U64(u64),
    /// Type 9 of type 8.
    Strs(Vec<String>),
    /// Type 9 of type 6.
    F32s(Vec<f32>),
    /// Type 9 of type 5.
    I32s(Vec<i32>),
    /// Any type, and any bytes for its value.
    Raw(u32, Vec<u8>),
}

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The name.
    pub name: String,
    /// Dimensions as the file lists them, innermost first.
    pub dims: Vec<u64>,
    /// The number of ggml's type.
    pub ggml_type: u32,
    /// What is written to the data section.
    pub data: Vec<u8>,
    /// The offset to claim, where it is not the tensor's own.
    pub offset: Option<u64>,
}

/// A GGUF file to write.
#[derive(Clone, Debug)]
pub struct GgufFile {
    /// The first four bytes.
    pub magic: [u8; 4],
    /// The version.
    pub version: u32,
    /// The number of tensors to claim, where it is not their number.
    pub n_tensors: Option<u64>,
    /// The number of metadata pairs to claim, where it is not their number.
    pub n_metadata: Option<u64>,
    /// What the data is really aligned to; 32 is what a file is read with unless it says more.
    pub alignment: usize,
    /// Keys and values.
    pub metadata: Vec<(String, Meta)>,
    /// The tensors.
    pub tensors: Vec<TensorSpec>,
}

/// A file as bytes, and where in it one field ends and the next begins.
pub struct Written {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Every boundary between two fields, ascending, without the file's end.
    pub boundaries: Vec<usize>,
}

impl Default for GgufFile {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_metadata: None,
            alignment: 32,
            metadata: Vec::new(),
            tensors: Vec::new(),
        }
    }
}

impl GgufFile {
    /// Sets a key, in its place if it is there and at the end if not.
    pub fn set(&mut self, key: &str, value: Meta) {
        match self.metadata.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
    }

    /// Takes a key out; it must be there.
    pub fn remove(&mut self, key: &str) {
        let before = self.metadata.len();
        self.metadata.retain(|(known, _)| known != key);
        assert_eq!(self.metadata.len() + 1, before, "no key {key} to take out");
    }

    /// The tensor of that name, which must be there.
    pub fn tensor(&mut self, name: &str) -> &mut TensorSpec {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Takes a tensor out; it must be there.
    pub fn remove_tensor(&mut self, name: &str) -> TensorSpec {
        let place = self.tensors.iter().position(|tensor| tensor.name == name);
        self.tensors
            .remove(place.unwrap_or_else(|| panic!("no tensor {name}")))
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        self.write().bytes
    }

    /// The file and the places where it can be cut.
    pub fn write(&self) -> Written {
        let mut out = Output::default();
        out.field(&self.magic);
        out.field(&self.version.to_le_bytes());
        let n_tensors = self.n_tensors.unwrap_or(self.tensors.len() as u64);
        let n_metadata = self.n_metadata.unwrap_or(self.metadata.len() as u64);
        out.field(&n_tensors.to_le_bytes());
        out.field(&n_metadata.to_le_bytes());
        for (key, value) in &self.metadata {
            out.string(key);
            out.value(value);
        }
        let mut own_offset = 0;
        for tensor in &self.tensors {
            out.string(&tensor.name);
            out.field(&(tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                out.field(&dim.to_le_bytes());
            }
            out.field(&tensor.ggml_type.to_le_bytes());
            out.field(&tensor.offset.unwrap_or(own_offset).to_le_bytes());
            own_offset += tensor.data.len().next_multiple_of(self.alignment) as u64;
        }
        out.pad(self.alignment);
        for (index, tensor) in self.tensors.iter().enumerate() {
            out.field(&tensor.data);
            if index + 1 < self.tensors.len() {
                out.pad(self.alignment);
            }
        }
        out.boundaries.retain(|&place| place < out.bytes.len());
        out.boundaries.dedup();
        Written {
            bytes: out.bytes,
            boundaries: out.boundaries,
        }
    }
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    boundaries: Vec<usize>,
}

impl Output {
    fn field(&mut self, bytes: &[u8]) {
        self.boundaries.push(self.bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn pad(&mut self, alignment: usize) {
        let end = self.bytes.len().next_multiple_of(alignment);
        self.bytes.resize(end, 0);
    }

    fn string(&mut self, text: &str) {
        self.field(&(text.len() as u64).to_le_bytes());
        self.field(text.as_bytes());
    }

    fn value(&mut self, value: &Meta) {
        let type_id: u32 = match value {
            Meta::U8(_) => 0,
            Meta::U32(_) => 4,
            Meta::I32(_) => 5,
            Meta::F32(_) => 6,
            Meta::Bool(_) => 7,
            Meta::Str(_) => 8,
            Meta::Strs(_) | Meta::F32s(_) | Meta::I32s(_) => 9,
            Meta::U64(_) => 10,
            Meta::Raw(type_id, _) => *type_id,
        };
        self.field(&type_id.to_le_bytes());
        match value {
            Meta::U8(n) => self.field(&[*n]),
            Meta::U32(n) => self.field(&n.to_le_bytes()),
            Meta::I32(n) => self.field(&n.to_le_bytes()),
            Meta::F32(x) => self.field(&x.to_le_bytes()),
            Meta::Bool(bit) => self.field(&[u8::from(*bit)]),
            Meta::Str(text) => self.string(text),
            Meta::U64(n) => self.field(&n.to_le_bytes()),
            Meta::Strs(texts) => {
                self.array_head(8, texts.len());
                for text in texts {
                    self.string(text);
                }
            }
            Meta::F32s(numbers) => {
                self.array_head(6, numbers.len());
                let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                self.field(&bytes);
            }
            Meta::I32s(numbers) => {
                self.array_head(5, numbers.len());
                let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
                self.field(&bytes);
            }
            Meta::Raw(_, bytes) => self.field(bytes),
        }
    }

    fn array_head(&mut self, element: u32, len: usize) {
        self.field(&element.to_le_bytes());
        self.field(&(len as u64).to_le_bytes());
    }
}
