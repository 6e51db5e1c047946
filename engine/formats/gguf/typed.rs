//! Metadata by key and type.
//!
//! Writers disagree on the width of a number, so an integer is taken from any integer type that
//! holds a number in range, and a float from either width.

use super::cursor::Cursor;
use super::value::{Array, Value, ValueType};
use super::{Gguf, MAX_STRING_BYTES};
use crate::formats::FormatError;

/// The strings of a metadata array; they stay in the file's mapping.
pub type StringArray<'a> = Vec<&'a str>;

impl Gguf {
    /// The integer at `key`.
    ///
    /// # Errors
    /// The key is missing, or is not an integer that fits.
    pub fn required_u32(&self, key: &str) -> Result<u32, FormatError> {
        self.optional_u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// The float at `key`.
    ///
    /// # Errors
    /// The key is missing or not a float.
    pub fn required_f32(&self, key: &str) -> Result<f32, FormatError> {
        self.optional_f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// The string at `key`.
    ///
    /// # Errors
    /// The key is missing or not a string.
    pub fn required_str(&self, key: &str) -> Result<&str, FormatError> {
        self.optional_str(key)?.ok_or_else(|| self.missing(key))
    }

    /// The integer at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not an integer that fits.
    pub fn optional_u32(&self, key: &str) -> Result<Option<u32>, FormatError> {
        self.converted(key, "an integer from 0 to 4294967295", as_u32)
    }

    /// The float at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not a float.
    pub fn optional_f32(&self, key: &str) -> Result<Option<f32>, FormatError> {
        self.converted(key, "a float", |value| {
            value.float().map(|number| number as f32)
        })
    }

    /// The bool at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not a bool.
    pub fn optional_bool(&self, key: &str) -> Result<Option<bool>, FormatError> {
        self.converted(key, "a bool", as_bool)
    }

    /// The string at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not a string.
    pub fn optional_str(&self, key: &str) -> Result<Option<&str>, FormatError> {
        self.converted(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The array of strings at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not an array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<StringArray<'_>>, FormatError> {
        let Some(array) = self.array(key, "strings")? else {
            return Ok(None);
        };
        if array.element != ValueType::String {
            return Err(self.wrong(key, "an array of strings"));
        }
        let mut cursor = self.elements(array);
        // Opening has walked these elements, so there are as many as the array claims.
        let mut strings = Vec::with_capacity(array.len);
        for _ in 0..array.len {
            strings.push(cursor.string(MAX_STRING_BYTES, key)?);
        }
        Ok(Some(strings))
    }

    /// The array of floats at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not an array of floats.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, FormatError> {
        if let Some(words) = self.words(key, ValueType::F32) {
            return Ok(Some(words.map(f32::from_le_bytes).collect()));
        }
        self.array_of(key, "floats", |value| value.float().map(|x| x as f32))
    }

    /// The array of integers at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not an array of integers that fit.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, FormatError> {
        if let Some(words) = self.words(key, ValueType::I32) {
            return Ok(Some(words.map(i32::from_le_bytes).collect()));
        }
        self.array_of(key, "32-bit integers", |value| {
            value.integer().and_then(|number| number.try_into().ok())
        })
    }

    /// The array of integers at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not an array of integers that fit.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, FormatError> {
        self.array_of(key, "integers from 0 to 4294967295", as_u32)
    }

    /// The array of bools at `key`, if there is one.
    ///
    /// # Errors
    /// The value is not an array of bools.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, FormatError> {
        self.array_of(key, "bools", as_bool)
    }

    /// A number for each of `n_layers` layers: the integer at `key` stands for all of them, an
    /// array must have one for each.
    ///
    /// # Errors
    /// The value is neither an integer nor an array of `n_layers` integers.
    pub fn per_layer_u32(
        &self,
        key: &str,
        n_layers: usize,
    ) -> Result<Option<Vec<u32>>, FormatError> {
        if !matches!(self.get(key), Some(Value::Array(_))) {
            let same = self.optional_u32(key)?;
            return Ok(same.map(|number| vec![number; n_layers]));
        }
        match self.u32s(key)? {
            Some(numbers) if numbers.len() != n_layers => Err(FormatError::key(
                self.path(),
                key,
                format!(
                    "has {} numbers, and the model has {n_layers} layers",
                    numbers.len()
                ),
            )),
            numbers => Ok(numbers),
        }
    }

    fn converted<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        self.get(key)
            .map(|value| convert(value).ok_or_else(|| self.wrong(key, wanted)))
            .transpose()
    }

    fn array(&self, key: &str, of: &str) -> Result<Option<&Array>, FormatError> {
        self.converted(key, &format!("an array of {of}"), |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    fn array_of<T>(
        &self,
        key: &str,
        of: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, FormatError> {
        let Some(array) = self.array(key, of)? else {
            return Ok(None);
        };
        // Strings would be copied before they were refused.
        if array.element == ValueType::String {
            return Err(self.wrong(key, &format!("an array of {of}")));
        }
        let mut cursor = self.elements(array);
        let mut elements = Vec::with_capacity(array.len);
        for index in 0..array.len {
            let value = Value::scalar(&mut cursor, array.element, key)?;
            elements.push(convert(&value).ok_or_else(|| {
                let detail = format!("holds {value} at index {index}, and must hold {of}");
                FormatError::key(self.path(), key, detail)
            })?);
        }
        Ok(Some(elements))
    }

    /// The elements of the array at `key`, if they are of this four-byte type. Vocabularies have
    /// a quarter of a million of them, too many to look at each one's type.
    fn words(&self, key: &str, element: ValueType) -> Option<impl Iterator<Item = [u8; 4]>> {
        match self.get(key)? {
            Value::Array(array) if array.element == element => {
                let (words, _) = self.file.bytes()[array.bytes.clone()].as_chunks();
                Some(words.iter().copied())
            }
            _ => None,
        }
    }

    fn elements(&self, array: &Array) -> Cursor<'_> {
        let bytes = &self.file.bytes()[..array.bytes.end];
        Cursor::new(self.path(), bytes, array.bytes.start)
    }

    fn missing(&self, key: &str) -> FormatError {
        FormatError::key(self.path(), key, "is missing")
    }

    fn wrong(&self, key: &str, wanted: &str) -> FormatError {
        let found = match self.get(key) {
            Some(value @ Value::Array(_)) => value.to_string(),
            Some(value) => format!("the {} {value}", value.value_type()),
            None => "missing".to_owned(),
        };
        FormatError::key(
            self.path(),
            key,
            format!("is {found}, and must be {wanted}"),
        )
    }
}

fn as_u32(value: &Value) -> Option<u32> {
    value.integer().and_then(|number| number.try_into().ok())
}

fn as_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(bit) => Some(*bit),
        _ => None,
    }
}
