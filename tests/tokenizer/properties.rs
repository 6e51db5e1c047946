//! What holds for every text and every sequence of ids.

use std::time::{Duration, Instant};

use onward_tokenizer::Tokenizer;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{GEMMA_TOKENIZER, QWEN_TOKENIZER};

/// Texts of all kinds: any characters, whitespace runs, special tokens and half of them.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        "[ \t\n\r\u{a0}\u{3000}]{1,40}",
        "[a-zA-Z0-9 .,'!-]{1,30}",
        "[👩\u{200d}\u{fe0f}🇫🇷é\u{301}日本語한국]{1,8}",
        prop::sample::select(vec![
            "<bos>",
            "<|im_start|>",
            "<end_of_turn>",
            "<|im",
            "<0x41>",
            "[multimodal]",
            "\0"
        ])
        .prop_map(str::to_owned),
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    for &id in ids {
        text.push_str(&stream.push(id).unwrap_or_else(|error| panic!("{error}")));
    }
    text + &stream.finish()
}

fn assert_round_trip(tokenizer: &Tokenizer, text: &str, expected: &str) {
    let ids = tokenizer
        .encode(text, false)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        tokenizer.decode(&ids).ok().as_deref(),
        Some(expected),
        "{ids:?}"
    );
    assert_eq!(streamed(tokenizer, &ids), expected, "{ids:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn byte_level_round_trip(text in text()) {
        assert_round_trip(&QWEN_TOKENIZER, &text, &text);
    }

    /// SentencePiece cannot tell `▁` from a space, and gives it back as one.
    #[test]
    fn sentencepiece_round_trip(text in text()) {
        assert_round_trip(&GEMMA_TOKENIZER, &text, &text.replace('▁', " "));
    }

    /// Random ids are mostly broken characters; no byte of them may be lost or moved.
    #[test]
    fn pieces_of_a_stream_make_the_whole(ids in vec(0u32..151_936, 0..40), bytes in vec(238u32..494, 0..40)) {
        prop_assert_eq!(Some(streamed(&QWEN_TOKENIZER, &ids)), QWEN_TOKENIZER.decode(&ids).ok());
        prop_assert_eq!(Some(streamed(&GEMMA_TOKENIZER, &bytes)), GEMMA_TOKENIZER.decode(&bytes).ok());
    }
}

#[test]
fn a_stream_waits_for_whole_characters() {
    // The byte tokens <0x00> … <0xFF> are 238 … 493.
    let push_all = |bytes: &[u8]| {
        let mut stream = GEMMA_TOKENIZER.stream();
        let mut pieces: Vec<String> = Vec::new();
        for &byte in bytes {
            pieces.push(
                stream
                    .push(238 + u32::from(byte))
                    .unwrap_or_else(|e| panic!("{e}")),
            );
        }
        pieces.push(stream.finish());
        pieces
    };
    assert_eq!(push_all("👩".as_bytes()), ["", "", "", "👩", ""]);
    assert_eq!(push_all(&[0xF0, 0x9F, 0x91]), ["", "", "", "\u{fffd}"]);
    assert_eq!(push_all(&[0xF0, 0x9F, b'a']), ["", "", "\u{fffd}a", ""]);
    assert_eq!(push_all(&[0xC3, 0xC3, 0xA9]), ["", "\u{fffd}", "é", ""]);
    assert_eq!(push_all(&[0xFF, b'x']), ["\u{fffd}", "x", ""]);
}

#[test]
fn ids_beyond_the_vocabulary_are_errors() {
    let message = |result: Result<String, _>| {
        result.map_err(|error: onward_tokenizer::TokenizerError| error.to_string())
    };
    let expected = Err("token id 151936 is outside the vocabulary of 151936 tokens".to_owned());
    assert_eq!(message(QWEN_TOKENIZER.decode(&[0, 151_936])), expected);
    let mut stream = QWEN_TOKENIZER.stream();
    assert_eq!(message(stream.push(151_936)), expected);
    assert_eq!(QWEN_TOKENIZER.token_text(151_936), None);
}

/// A megabyte of the worst: one word, one run, one mark. Quadratic work would take hours.
#[test]
fn hostile_texts_take_bounded_time() {
    let units = ["a", " ", "\n", "\0", "\u{301}", "'", "1", " x", "<bos>"];
    for tokenizer in [&*GEMMA_TOKENIZER, &*QWEN_TOKENIZER] {
        for unit in units {
            let text = unit.repeat((1 << 20) / unit.len());
            let start = Instant::now();
            let ids = tokenizer
                .encode(&text, false)
                .unwrap_or_else(|e| panic!("{unit:?}: {e}"));
            assert!(
                tokenizer.decode(&ids).is_ok_and(|decoded| decoded == text),
                "{unit:?}"
            );
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{unit:?}: {:?}",
                start.elapsed()
            );
        }
    }
}
