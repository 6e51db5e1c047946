//! Metadata values.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::ops::Range;

use super::cursor::Cursor;
use super::{MAX_ARRAY, MAX_KEY_BYTES, MAX_METADATA, MAX_STRING_BYTES};
use crate::formats::FormatError;
use crate::formats::error::printable;

/// The type of a value or of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the format's own")]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the format's own")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// Elements of one type, left in the file: see [`super::Gguf::strings`] and its like.
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array in the metadata, whose elements stay in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    pub(super) element: ValueType,
    pub(super) len: usize,
    pub(super) bytes: Range<usize>,
}

impl Array {
    /// The type of the elements, never [`ValueType::Array`].
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl ValueType {
    fn from_id(id: u32) -> Option<Self> {
        use ValueType::*;
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64,
        ]
        .get(usize::try_from(id).ok()?)
        .copied()
    }

    /// Bytes of an element, where they are the same for all.
    fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Value {
    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The number, of an integer of any width.
    pub fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::I8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U64(n) => Some(n.into()),
            Self::I64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// The number, of a float of either width.
    pub fn float(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => Some(x.into()),
            Self::F64(x) => Some(x),
            _ => None,
        }
    }

    /// Reads a value whose size does not depend on its content.
    pub(super) fn scalar(
        cursor: &mut Cursor<'_>,
        value_type: ValueType,
        what: &str,
    ) -> Result<Self, FormatError> {
        Ok(match value_type {
            ValueType::U8 => Self::U8(u8::from_le_bytes(cursor.array(what)?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(cursor.array(what)?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(cursor.array(what)?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(cursor.array(what)?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(cursor.array(what)?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(cursor.array(what)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(cursor.array(what)?)),
            ValueType::U64 => Self::U64(u64::from_le_bytes(cursor.array(what)?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(cursor.array(what)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(cursor.array(what)?)),
            ValueType::Bool => match cursor.array(what)? {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                [byte] => {
                    return Err(cursor.malformed(format!(
                        "{what} is a bool with the value {byte}, neither 0 nor 1"
                    )));
                }
            },
            ValueType::String => Self::String(cursor.string(MAX_STRING_BYTES, what)?.to_owned()),
            ValueType::Array => {
                return Err(cursor.malformed(format!("{what} is an array inside an array")));
            }
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32(x) => write!(f, "{x}"),
            Self::F64(x) => write!(f, "{x}"),
            Self::Bool(x) => write!(f, "{x}"),
            Self::String(text) => write!(f, "\"{}\"", printable(text)),
            Self::Array(array) => write!(f, "an array of {} {}", array.len, array.element),
            integer => write!(f, "{}", integer.integer().unwrap_or_default()),
        }
    }
}

/// Metadata in the order of the file, and where each key stands in it.
pub(super) type Metadata = (Vec<(String, Value)>, HashMap<String, usize>);

/// Reads `count` pairs of key and value.
pub(super) fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, FormatError> {
    // A pair is at least a key's length, a value type and one byte of value.
    let count = cursor.count(
        count,
        MAX_METADATA,
        8 + 4 + 1,
        "the header",
        "metadata pairs",
    )?;
    let mut pairs = Vec::with_capacity(count);
    let mut keys = HashMap::with_capacity(count);
    for index in 0..count {
        let what = format!("the key of metadata pair {index}");
        let key = cursor.string(MAX_KEY_BYTES, &what)?.to_owned();
        if key.is_empty() {
            return Err(cursor.malformed(format!("{what} is empty")));
        }
        let value = read_value(cursor, &key)?;
        match keys.entry(key.clone()) {
            Entry::Occupied(_) => {
                return Err(FormatError::key(cursor.path(), &key, "stands there twice"));
            }
            Entry::Vacant(slot) => slot.insert(index),
        };
        pairs.push((key, value));
    }
    Ok((pairs, keys))
}

fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, FormatError> {
    let what = format!("the value of key {}", printable(key));
    match read_type(cursor, &what)? {
        ValueType::Array => read_array(cursor, &what).map(Value::Array),
        scalar => Value::scalar(cursor, scalar, &what),
    }
}

fn read_type(cursor: &mut Cursor<'_>, what: &str) -> Result<ValueType, FormatError> {
    let id = cursor.u32(what)?;
    ValueType::from_id(id)
        .ok_or_else(|| cursor.malformed(format!("{what} has the unknown type {id}")))
}

/// Steps over an array's elements, checking each where its bytes can be wrong.
fn read_array(cursor: &mut Cursor<'_>, what: &str) -> Result<Array, FormatError> {
    let element = read_type(cursor, what)?;
    let count = cursor.u64(what)?;
    // A string is at least its length.
    let min_bytes = element.size().unwrap_or(8);
    let len = cursor.count(count, MAX_ARRAY, min_bytes, what, "elements")?;
    let start = cursor.position();
    match element {
        ValueType::Array => return Err(cursor.malformed(format!("{what} is an array of arrays"))),
        ValueType::String => {
            for _ in 0..len {
                cursor.string(MAX_STRING_BYTES, what)?;
            }
        }
        ValueType::Bool => {
            for _ in 0..len {
                Value::scalar(cursor, element, what)?;
            }
        }
        // The product was checked against the file's size when the count was.
        _ => drop(cursor.take(len * min_bytes, what)?),
    }
    Ok(Array {
        element,
        len,
        bytes: start..cursor.position(),
    })
}
