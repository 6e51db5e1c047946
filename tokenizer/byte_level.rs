//! The printable alphabet of byte-level BPE.
//!
//! GPT-2 writes every byte as one printable character: the visible characters of Latin-1 stand
//! for themselves, and the 68 other bytes follow in order from U+0100.
//! Source: `bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>.

/// First code point beyond the alphabet: 256 + the 68 bytes that are not visible.
const ALPHABET_END: usize = 256 + 68;

static BYTE_OF_CHAR: [Option<u8>; ALPHABET_END] = byte_of_char();

const fn is_visible(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn byte_of_char() -> [Option<u8>; ALPHABET_END] {
    let mut table = [None; ALPHABET_END];
    let mut next_hidden = 256;
    let mut byte = 0;
    while byte < 256 {
        if is_visible(byte as u8) {
            table[byte] = Some(byte as u8);
        } else {
            table[next_hidden] = Some(byte as u8);
            next_hidden += 1;
        }
        byte += 1;
    }
    table
}

/// The bytes that a token of a byte-level vocabulary stands for, or `None` if some character of
/// its text is not of the alphabet (then the text is meant literally).
pub(crate) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|c| BYTE_OF_CHAR.get(c as usize).copied().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn alphabet_covers_every_byte_once() {
        let bytes: Vec<u8> = (0..400u32)
            .filter_map(char::from_u32)
            .filter_map(|c| bytes_of(&c.to_string()))
            .flatten()
            .collect();
        let mut sorted = bytes.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn known_characters() {
        assert_eq!(bytes_of("ĠaĊ"), Some(b" a\n".to_vec()));
        assert_eq!(bytes_of("a b"), None);
    }
}
