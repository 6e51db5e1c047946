//! The splits behind the names of `tokenizer.ggml.pre`, against llama.cpp's.
//!
//! Real vocabularies hide most of a split: what the rules keep apart, the merges would not join
//! anyway. This one joins whatever it may. It has the 256 bytes and every text of two to four
//! characters over a small alphabet, each merged from the text without its last character; so
//! the ids show where each piece begins and ends. The golden ids are llama.cpp's, run on GGUF
//! files with this vocabulary.

use std::collections::BTreeMap;

use onward_tests::golden_json;
use onward_tokenizer::{TokenType, Tokenizer, Vocabulary, VocabularyKind};
use serde::Deserialize;

/// In the alphabet of byte-level vocabularies: `Ġ` is a space and `Ċ` a line feed.
const ALPHABET: [char; 9] = ['a', 's', 'S', '\'', 'Ġ', '1', 'Ċ', '.', '/'];

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

/// Every byte as byte-level vocabularies write it, in order.
fn bytes() -> Vec<String> {
    let mut hidden = 256..;
    let visible = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = |byte: u32| {
        if visible(&byte) {
            Some(byte)
        } else {
            hidden.next()
        }
    };
    (0..256)
        .filter_map(code)
        .filter_map(char::from_u32)
        .map(String::from)
        .collect()
}

/// Tokens in order of id, and the merges that make them.
fn vocabulary() -> (Vec<String>, Vec<String>) {
    let (mut tokens, mut merges) = (bytes(), Vec::new());
    let mut shorter: Vec<String> = ALPHABET.iter().map(|&c| c.into()).collect();
    for _ in 2..=4 {
        let pairs = shorter
            .iter()
            .flat_map(|left| ALPHABET.map(|right| (left, right)));
        let pairs: Vec<(&String, char)> = pairs.collect();
        merges.extend(pairs.iter().map(|(left, right)| format!("{left} {right}")));
        let longer: Vec<String> = pairs
            .iter()
            .map(|(left, right)| format!("{left}{right}"))
            .collect();
        tokens.extend(longer.iter().cloned());
        shorter = longer;
    }
    (tokens, merges)
}

#[test]
fn splits_equal_llama_cpp() {
    let golden: Golden = golden_json("pre_tokenizers.json");
    assert_eq!((golden.ids.len(), golden.texts.len()), (19, 24));
    let (tokens, merges) = vocabulary();
    for (pre, expected) in &golden.ids {
        let tokenizer = Tokenizer::from_vocabulary(&Vocabulary {
            kind: VocabularyKind::ByteLevelBpe { pre: pre.clone() },
            tokens: tokens.iter().map(String::as_str).collect(),
            scores: Vec::new(),
            types: vec![TokenType::Normal; tokens.len()],
            merges: merges.iter().map(String::as_str).collect(),
            bos: None,
            eos: None,
            unknown: None,
            stop: Vec::new(),
            add_bos: false,
            add_eos: false,
        });
        let tokenizer = tokenizer.unwrap_or_else(|error| panic!("{pre}: {error}"));
        for (text, ids) in golden.texts.iter().zip(expected) {
            assert_eq!(
                tokenizer.encode(text, false).ok().as_ref(),
                Some(ids),
                "{pre}: {text:?}"
            );
        }
    }
}
