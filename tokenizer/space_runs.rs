//! Runs of spaces that are tokens of their own.
//!
//! Gemma's vocabulary has a token for each run of 2 to 31 spaces, marked as user-defined. They
//! are not looked for in the text like other such tokens: in the model's own tokenizer they are
//! ordinary tokens over `▁` whose merges come before all others, shorter runs first. Up to 31
//! spaces the two readings agree; 33 spaces are 16 and 17, not 31 and 2.

use crate::vocabulary::{TokenType, Vocabulary};

/// The longest run that is recognised.
const LONGEST: usize = 64;

/// `▁`, [`LONGEST`] times.
const RUN: &str = "▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁";

/// Above the score of any ordinary token.
const FIRST: f32 = 1e6;

/// The vocabulary with its runs of spaces as tokens that merge first, the shorter the earlier.
pub(crate) fn as_merges<'a>(vocabulary: &Vocabulary<'a>) -> Vocabulary<'a> {
    let mut vocabulary = vocabulary.clone();
    let tokens = vocabulary.tokens.iter_mut().zip(&mut vocabulary.types);
    for ((text, kind), score) in tokens.zip(&mut vocabulary.scores) {
        let n = text.len();
        let is_run = (2..=LONGEST).contains(&n) && text.bytes().all(|byte| byte == b' ');
        if is_run && *kind == TokenType::UserDefined {
            *text = &RUN[..n * '▁'.len_utf8()];
            *kind = TokenType::Normal;
            *score = FIRST - n as f32;
        }
    }
    vocabulary
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tokenizer, VocabularyKind};

    /// Lengths of the pieces that Hugging Face's `tokenizers` (Python, 0.22) cuts runs of `▁`
    /// into, with merges for runs of 2 to 31 in order of length.
    const PIECES: [(usize, &[usize]); 7] = [
        (31, &[31]),
        (32, &[16, 16]),
        (33, &[16, 17]),
        (40, &[16, 24]),
        (63, &[16, 16, 31]),
        (95, &[16, 16, 16, 16, 31]),
        (100, &[16, 16, 16, 16, 16, 20]),
    ];

    #[test]
    fn long_runs_are_cut_as_merges_cut_them() {
        let spaces = " ".repeat(31);
        let mut tokens = vec!["<unk>", "▁", "a"];
        tokens.extend((2..=31).map(|n| &spaces[..n]));
        let mut types = vec![TokenType::UserDefined; tokens.len()];
        types[..3].copy_from_slice(&[TokenType::Unknown, TokenType::Normal, TokenType::Normal]);
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary {
            kind: VocabularyKind::SentencePiece {
                add_space_prefix: false,
            },
            scores: vec![-1000.0; tokens.len()],
            tokens,
            types,
            merges: Vec::new(),
            bos: None,
            eos: None,
            unknown: Some(0),
            stop: Vec::new(),
            add_bos: false,
            add_eos: false,
        })
        .unwrap();
        for (n, pieces) in PIECES {
            let text = format!("a{}a", " ".repeat(n));
            let ids = tokenizer.encode(&text, false).unwrap();
            let lengths: Vec<_> = ids[1..ids.len() - 1]
                .iter()
                .map(|&id| tokenizer.token_bytes(id).unwrap().len())
                .collect();
            assert_eq!(lengths, pieces, "{n} spaces");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }
}
