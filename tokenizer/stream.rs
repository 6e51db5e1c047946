//! Decoding ids one by one, as they are generated.

use crate::{Tokenizer, TokenizerError};

/// Text from a stream of ids. Every piece consists of whole characters; the pieces and what
/// [`DecodeStream::finish`] returns, put together, are what decoding all ids at once gives.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes of a character that is not complete yet, three at most.
    pending: Vec<u8>,
    after_special: bool,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, after_special: bool) -> Self {
        Self {
            tokenizer,
            pending: Vec::new(),
            after_special,
        }
    }

    /// The text that this id completes; empty while a character is still in parts.
    ///
    /// # Errors
    /// An id beyond the vocabulary; the stream is as before.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        let piece = self.tokenizer.piece(id, &mut self.after_special)?;
        self.pending.extend(piece);
        let mut text = String::new();
        let mut taken = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            taken += chunk.valid().len();
            if is_start_of_character(chunk.invalid())
                && taken + chunk.invalid().len() == self.pending.len()
            {
                break;
            }
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                taken += chunk.invalid().len();
            }
        }
        self.pending.drain(..taken);
        Ok(text)
    }

    /// What is left at the end: U+FFFD if the last character stayed incomplete.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether more bytes could still make a character of these.
fn is_start_of_character(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
