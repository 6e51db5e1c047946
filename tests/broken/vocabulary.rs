//! Models whose vocabularies contradict themselves or the weights.

use super::{Broken, changed};
use crate::gguf_file::{GgufFile, Meta};
use crate::tiny_model;

/// Every file.
pub(super) fn all(base: &GgufFile) -> Vec<Broken> {
    let mut all = sentencepiece(base);
    all.extend(byte_level());
    all
}

fn sentencepiece(base: &GgufFile) -> Vec<Broken> {
    let set = |name: &str, key: &str, value: Meta, says: &str| {
        let file = changed(base, |f| f.set(&format!("tokenizer.ggml.{key}"), value));
        Broken::new(name, &file, says)
    };
    let strings = |texts: &[&str]| Meta::Strs(texts.iter().map(|&text| text.to_owned()).collect());
    let n_tokens = base
        .metadata
        .iter()
        .find_map(|(key, value)| match value {
            Meta::Strs(tokens) if key == "tokenizer.ggml.tokens" => Some(tokens.len()),
            _ => None,
        })
        .unwrap_or_default();
    vec![
        set("an empty vocabulary", "tokens", strings(&[]), ""),
        set("a vocabulary of one", "tokens", strings(&["a"]), ""),
        set(
            "more tokens than embeddings",
            "tokens",
            Meta::Strs((0..5000).map(|i| format!("t{i}")).collect()),
            "",
        ),
        Broken::new(
            "more tokens than embeddings, consistently",
            &changed(base, |f| {
                let tokens = (0..5000).map(|i| format!("t{i}")).collect();
                f.set("tokenizer.ggml.tokens", Meta::Strs(tokens));
                f.set("tokenizer.ggml.scores", Meta::F32s(vec![0.0; 5000]));
                f.set("tokenizer.ggml.token_type", Meta::I32s(vec![1; 5000]));
            }),
            "",
        ),
        set(
            "one token many times",
            "tokens",
            Meta::Strs(vec!["same".to_owned(); n_tokens]),
            "",
        ),
        set(
            "too few scores",
            "scores",
            Meta::F32s(vec![0.0; 5]),
            "scores",
        ),
        set(
            "NaN scores",
            "scores",
            Meta::F32s(vec![f32::NAN; n_tokens]),
            "score",
        ),
        set(
            "too many types",
            "token_type",
            Meta::I32s(vec![1; n_tokens + 1]),
            "type",
        ),
        set(
            "unknown types",
            "token_type",
            Meta::I32s(vec![99; n_tokens]),
            "type",
        ),
        set(
            "an unknown tokenizer",
            "model",
            Meta::Str("quipu".to_owned()),
            "quipu",
        ),
        set(
            "a BOS beyond the vocabulary",
            "bos_token_id",
            Meta::U32(u32::MAX),
            "",
        ),
        set(
            "an EOS beyond the vocabulary",
            "eos_token_id",
            Meta::U32(n_tokens as u32),
            "",
        ),
    ]
}

fn byte_level() -> Vec<Broken> {
    let base = tiny_model::llama_bpe();
    let merges = |name: &str, merges: &[&str]| {
        let merges = Meta::Strs(merges.iter().map(|&merge| merge.to_owned()).collect());
        let file = changed(&base, |f| f.set("tokenizer.ggml.merges", merges));
        Broken::new(name, &file, "merge")
    };
    vec![
        merges("merges without a space", &["he"]),
        merges("empty merges", &["", " "]),
        merges("an endless merge", &[&"endless".repeat(1000)]),
        Broken::new(
            "no merges",
            &changed(&base, |f| f.remove("tokenizer.ggml.merges")),
            "merges",
        ),
        Broken::new(
            "an unknown pre-tokenizer",
            &changed(&base, |f| {
                f.set("tokenizer.ggml.pre", Meta::Str("quipu".to_owned()))
            }),
            "quipu",
        ),
        Broken::new(
            "no bytes in the vocabulary",
            &changed(&base, |f| {
                let tokens = (0..268).map(|i| format!("token{i}")).collect();
                f.set("tokenizer.ggml.tokens", Meta::Strs(tokens));
            }),
            "",
        ),
    ]
}
