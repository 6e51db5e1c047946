//! The tokens of a vocabulary: their texts, their types, and the bytes each one stands for.

use crate::TokenizerError;
use crate::byte_level;
use crate::text_set::TextSet;
use crate::vocabulary::TokenType;

/// Ids beyond this are no vocabulary; it bounds what is allocated for a damaged file.
pub(crate) const MAX_TOKENS: usize = 1 << 24;

/// How the text of a normal token spells the bytes it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `▁` is a space, all else is literal.
    SentencePiece,
    /// One printable character per byte.
    ByteLevel,
}

/// Token texts and types by id.
pub(crate) struct TokenTable {
    texts: TextSet,
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
            let detail = format!("it has {} tokens", tokens.len());
            return Err(TokenizerError::vocabulary(detail));
        }
        if types.len() != tokens.len() {
            let detail = format!("{} tokens but {} token types", tokens.len(), types.len());
            return Err(TokenizerError::vocabulary(detail));
        }
        Ok(Self {
            texts: TextSet::new(tokens)?,
            types,
            spelling,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn token_type(&self, id: u32) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    /// The text as the vocabulary writes it, or `None` beyond the vocabulary.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id)
    }

    /// The id of a text as the vocabulary writes it.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.texts.find(text)
    }

    /// The bytes that the token contributes to a text, or `None` beyond the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        let text = self.text(id)?;
        let literal = || text.as_bytes().to_vec();
        Some(match (self.token_type(id)?, self.spelling) {
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

    /// Ids, types and texts in order of id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, TokenType, &str)> {
        (0..self.len() as u32).filter_map(|id| Some((id, self.token_type(id)?, self.text(id)?)))
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
