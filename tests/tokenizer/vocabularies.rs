//! Small vocabularies made for one rule each, and vocabularies that contradict themselves.

use onward_tokenizer::{TokenType, Tokenizer, Vocabulary, VocabularyKind};
use serde_json::json;

use TokenType::{Byte, Control, Normal, Unknown, UserDefined};

fn sentencepiece<'a>(
    tokens: &[(&'a str, f32, TokenType)],
    add_space_prefix: bool,
) -> Vocabulary<'a> {
    Vocabulary {
        kind: VocabularyKind::SentencePiece { add_space_prefix },
        tokens: tokens.iter().map(|token| token.0).collect(),
        scores: tokens.iter().map(|token| token.1).collect(),
        types: tokens.iter().map(|token| token.2).collect(),
        merges: Vec::new(),
        bos: None,
        eos: None,
        unknown: Some(0),
        stop: Vec::new(),
        add_bos: false,
        add_eos: false,
    }
}

fn byte_level<'a>(pre: &str, tokens: &[&'a str], merges: &[&'a str]) -> Vocabulary<'a> {
    Vocabulary {
        kind: VocabularyKind::ByteLevelBpe { pre: pre.into() },
        tokens: tokens.to_vec(),
        scores: Vec::new(),
        types: vec![Normal; tokens.len()],
        merges: merges.to_vec(),
        bos: None,
        eos: None,
        unknown: None,
        stop: Vec::new(),
        add_bos: true,
        add_eos: false,
    }
}

fn build(vocabulary: &Vocabulary<'_>) -> Tokenizer {
    Tokenizer::from_vocabulary(vocabulary).unwrap_or_else(|error| panic!("{error}"))
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer
        .encode(text, false)
        .unwrap_or_else(|error| panic!("{error}"))
}

const LETTERS: [(&str, f32, TokenType); 9] = [
    ("<unk>", 0.0, Unknown),
    ("a", -10.0, Normal),
    ("b", -10.0, Normal),
    ("c", -10.0, Normal),
    ("ab", -2.0, Normal),
    ("bc", -1.0, Normal),
    ("aa", -3.0, Normal),
    ("▁", -9.0, Normal),
    ("▁a", -4.0, Normal),
];

#[test]
fn the_best_score_merges_first_and_the_leftmost_of_equals() {
    let tokenizer = build(&sentencepiece(&LETTERS, false));
    assert_eq!(encode(&tokenizer, "abc"), [1, 5]);
    assert_eq!(encode(&tokenizer, "aaa"), [6, 1]);
    assert_eq!(encode(&tokenizer, "aab"), [1, 4]);
    assert_eq!(encode(&tokenizer, "c a"), [3, 8]);
}

#[test]
fn what_no_token_covers_becomes_bytes_or_one_unknown() {
    let tokenizer = build(&sentencepiece(&LETTERS, false));
    assert_eq!(encode(&tokenizer, "axyzb"), [1, 0, 2]);
    let with_bytes = [
        LETTERS.as_slice(),
        &[("<0xC3>", 0.0, Byte), ("<0xA9>", 0.0, Byte)],
    ]
    .concat();
    let tokenizer = build(&sentencepiece(&with_bytes, false));
    assert_eq!(encode(&tokenizer, "aéb"), [1, 9, 10, 2]);
    assert_eq!(tokenizer.decode(&[9, 10]).as_deref().ok(), Some("é"));
    // Text that looks like a byte token is text.
    assert_eq!(encode(&tokenizer, "<0xC3>"), [0]);
}

/// The space stands before the text and after tokens that are taken literally; decoding takes
/// it away there, and only there.
#[test]
fn the_prefix_space_comes_and_goes() {
    let tokens = [
        LETTERS.as_slice(),
        &[("<sep>", 0.0, Control), ("aa b", 0.0, UserDefined)],
    ]
    .concat();
    let tokenizer = build(&sentencepiece(&tokens, true));
    assert_eq!(encode(&tokenizer, "a"), [8]);
    assert_eq!(encode(&tokenizer, " a"), [7, 8]);
    assert_eq!(encode(&tokenizer, "a<sep>a b"), [8, 9, 8, 7, 2]);
    // `aa` scores better than `▁a`.
    assert_eq!(encode(&tokenizer, "aa baa"), [10, 7, 6]);
    for text in ["", "a", " a", "  a", "a<sep>a b", "<sep><sep> a", "aa b a"] {
        let ids = encode(&tokenizer, text);
        assert_eq!(tokenizer.decode(&ids).as_deref().ok(), Some(text));
    }
    let continued = |context: &[u32]| tokenizer.stream_after(context).push(8).ok();
    assert_eq!(continued(&[8]).as_deref(), Some(" a"));
    assert_eq!(continued(&[9]).as_deref(), Some("a"));
    assert_eq!(continued(&[]).as_deref(), Some("a"));
}

#[test]
fn ordinary_text_never_becomes_a_control_token() {
    let tokens = [
        LETTERS.as_slice(),
        &[("b▁c", 5.0, Control), ("b▁", -5.0, Normal)],
    ]
    .concat();
    let tokenizer = build(&sentencepiece(&tokens, false));
    assert_eq!(encode(&tokenizer, "b c"), [10, 3]);
    assert_eq!(encode(&tokenizer, "b▁c"), [9]);
}

#[test]
fn merges_go_by_rank_unless_the_word_is_a_token() {
    let tokens = ["a", "b", "c", "ab", "bc", "abc"];
    let merges = ["b c", "a b"];
    assert_eq!(
        encode(&build(&byte_level("gpt-2", &tokens, &merges)), "abc"),
        [0, 4]
    );
    assert_eq!(
        encode(&build(&byte_level("llama-bpe", &tokens, &merges)), "abc"),
        [5]
    );
    let merges = ["a b", "b c", "ab c"];
    assert_eq!(
        encode(&build(&byte_level("gpt-2", &tokens, &merges)), "abcab"),
        [5, 3]
    );
}

#[test]
fn bos_is_only_added_where_there_is_one() {
    let tokenizer = build(&byte_level("gpt-2", &["a", "b", "ab"], &["a b"]));
    assert!(!tokenizer.adds_bos());
    let error = tokenizer
        .encode("a", true)
        .map_err(|error| error.to_string());
    assert_eq!(
        error,
        Err("the vocabulary has no beginning-of-sequence token".into())
    );
}

fn refusal(vocabulary: &Vocabulary<'_>) -> String {
    match Tokenizer::from_vocabulary(vocabulary) {
        Ok(_) => panic!("{vocabulary:?} was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn contradictions_are_refused_in_one_sentence() {
    let good = || sentencepiece(&LETTERS, false);
    let mut few_scores = good();
    few_scores.scores.pop();
    let mut not_a_number = good();
    not_a_number.scores[3] = f32::NAN;
    let mut few_types = good();
    few_types.types.pop();
    let mut bad_byte = good();
    bad_byte.types[2] = Byte;
    let mut far_bos = good();
    far_bos.bos = Some(9);
    let mut far_stop = good();
    far_stop.stop = vec![u32::MAX];
    let mut far_unknown = good();
    far_unknown.unknown = Some(9);
    let empty = sentencepiece(&[], false);
    let cases = [
        (
            few_scores,
            "the vocabulary is invalid: 9 tokens but 8 scores",
        ),
        (
            not_a_number,
            "the vocabulary is invalid: the score of token 3 is not a number",
        ),
        (
            few_types,
            "the vocabulary is invalid: 9 tokens but 8 token types",
        ),
        (
            bad_byte,
            "the vocabulary is invalid: byte token 2 is written \"b\"",
        ),
        (far_bos, "token id 9 is outside the vocabulary of 9 tokens"),
        (
            far_stop,
            "token id 4294967295 is outside the vocabulary of 9 tokens",
        ),
        (
            far_unknown,
            "token id 9 is outside the vocabulary of 9 tokens",
        ),
        (empty, "the vocabulary is invalid: it has 0 tokens"),
        (
            byte_level("klingon", &["a"], &["a a"]),
            "the pre-tokenizer \"klingon\" that the vocabulary names is not supported",
        ),
        (
            byte_level("gpt-2", &["a"], &[]),
            "the vocabulary is invalid: it has 0 merges",
        ),
        (
            byte_level("gpt-2", &["a"], &["aa"]),
            "the vocabulary is invalid: the merge \"aa\" is not two tokens",
        ),
    ];
    for (vocabulary, expected) in cases {
        assert_eq!(refusal(&vocabulary), expected);
    }
    let tokenizer = build(&byte_level("gpt-2", &["a"], &["a a"]));
    let error = tokenizer
        .encode("ab", false)
        .map_err(|error| error.to_string());
    assert_eq!(
        error,
        Err("the text cannot be tokenized: no token of the vocabulary covers \"b\"".into())
    );
}

fn tokenizer_json() -> serde_json::Value {
    json!({
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
        "added_tokens": [{"id": 4, "content": "<s>", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": ["a b"]},
    })
}

#[test]
fn a_hugging_face_file_never_cuts_or_fills_a_prompt() {
    let json = tokenizer_json().to_string();
    let config = json!({"bos_token": {"content": "<s>"}, "eos_token": null});
    let tokenizer =
        Tokenizer::from_files(json.as_bytes(), Some(&config)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(encode(&tokenizer, "ab a b<s>"), [2, 3, 0, 3, 1, 4]);
    assert_eq!(tokenizer.encode("ab", true).ok(), Some(vec![4, 2]));
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()),
        (Some(4), None, true)
    );
    assert!(tokenizer.is_special(4));
}

/// Every value of the file replaced by a wrong one: errors, never panics.
#[test]
fn damaged_hugging_face_files_are_errors() {
    let wrong = [
        json!(null),
        json!(-1),
        json!(u32::MAX),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
    ];
    let paths = [
        "/added_tokens",
        "/added_tokens/0",
        "/added_tokens/0/id",
        "/pre_tokenizer",
        "/decoder",
        "/decoder/type",
        "/model",
        "/model/type",
        "/model/vocab",
        "/model/vocab/ab",
        "/model/merges",
        "/model/merges/0",
        "/post_processor/single",
    ];
    let mut n_refused = 0;
    for path in paths {
        for value in &wrong {
            let mut file = tokenizer_json();
            *file.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
            match Tokenizer::from_files(file.to_string().as_bytes(), None) {
                Ok(tokenizer) => drop(tokenizer.encode("ab <s>", false)),
                Err(error) => {
                    n_refused += 1;
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
            }
        }
    }
    assert!(n_refused > 60, "{n_refused}");
    let mut prefix = tokenizer_json();
    prefix["model"]["continuing_subword_prefix"] = json!("é");
    assert!(Tokenizer::from_files(prefix.to_string().as_bytes(), None).is_err());
}
