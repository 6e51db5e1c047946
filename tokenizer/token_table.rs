//! The texts of a vocabulary in one block of memory, and the bytes each token stands for.

use crate::TokenizerError;
use crate::byte_level;
use crate::vocabulary::TokenType;

/// Ids beyond this are no vocabulary; it bounds what is allocated for a damaged file.
const MAX_TOKENS: usize = 1 << 24;

/// How the text of a normal token spells the bytes it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `▁` is a space, all else is literal.
    SentencePiece,
    /// One printable character per byte.
    ByteLevel,
}

/// Token texts and types by id. One allocation holds all texts: hundreds of thousands of small
/// ones would be felt at start.
#[derive(Debug)]
pub(crate) struct TokenTable {
    texts: String,
    ends: Vec<u32>,
    types: Vec<TokenType>,
    spelling: Spelling,
}

impl TokenTable {
    pub(crate) fn new(
        tokens: &[&str],
        types: Vec<TokenType>,
        spelling: Spelling,
    ) -> Result<Self, TokenizerError> {
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            return Err(TokenizerError::vocabulary(format!(
                "it has {} tokens",
                tokens.len()
            )));
        }
        if types.len() != tokens.len() {
            return Err(TokenizerError::vocabulary(format!(
                "{} tokens but {} token types",
                tokens.len(),
                types.len()
            )));
        }
        let mut texts = String::with_capacity(tokens.iter().map(|token| token.len()).sum());
        let mut ends = Vec::with_capacity(tokens.len());
        for token in tokens {
            texts.push_str(token);
            let end = u32::try_from(texts.len())
                .map_err(|_| TokenizerError::vocabulary("its texts are longer than 4 GiB"))?;
            ends.push(end);
        }
        Ok(Self {
            texts,
            ends,
            types,
            spelling,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn token_type(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    /// The text as the vocabulary writes it, or `None` beyond the vocabulary.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        let index = id as usize;
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        Some(&self.texts[start..end])
    }

    /// The bytes that the token contributes to a text, or `None` beyond the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        let text = self.text(id)?;
        let literal = || text.as_bytes().to_vec();
        Some(match (self.types[id as usize], self.spelling) {
            (TokenType::Unknown | TokenType::Control | TokenType::UserDefined, _) => literal(),
            (TokenType::Byte, _) => byte_value(text).map_or_else(literal, |byte| vec![byte]),
            (TokenType::Normal | TokenType::Unused, Spelling::SentencePiece) => {
                text.replace('▁', " ").into_bytes()
            }
            (TokenType::Normal | TokenType::Unused, Spelling::ByteLevel) => {
                byte_level::bytes_of(text).unwrap_or_else(literal)
            }
        })
    }

    /// Ids and texts in order of id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.len() as u32).filter_map(|id| Some((id, self.text(id)?)))
    }
}

/// The value of a byte token's text `<0xNN>`.
pub(crate) fn byte_value(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}
