//! Files that are sound as GGUF and describe no model that could run.

use super::{Broken, changed};
use crate::gguf_file::{GgufFile, Meta, TensorSpec};
use crate::tiny_model;

/// Every file.
pub fn all() -> Vec<Broken> {
    let base = tiny_model::llama();
    let mut all = missing_keys(&base);
    all.extend(numbers(&base));
    all.extend(mistyped(&base));
    all.extend(tensors(&base));
    all.extend(weights(&base));
    all.extend(vocabularies(&base));
    all.extend(byte_level_vocabularies());
    all
}

fn missing_keys(base: &GgufFile) -> Vec<Broken> {
    [
        "general.architecture",
        "llama.block_count",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
    ]
    .into_iter()
    .map(|key| Broken::new(format!("no {key}"), &changed(base, |f| f.remove(key)), key))
    .collect()
}

/// Hyperparameters that contradict one another, or themselves.
fn numbers(base: &GgufFile) -> Vec<Broken> {
    let integers = [
        ("block_count", 0, "layer"),
        ("block_count", 1, "blk.1."),
        ("block_count", 3, "blk.2."),
        ("block_count", u32::MAX, "4294967295"),
        ("context_length", 0, "context"),
        ("embedding_length", 0, ""),
        ("embedding_length", 32, "token_embd.weight"),
        ("embedding_length", u32::MAX, "4294967295"),
        ("feed_forward_length", 0, "feed-forward"),
        ("feed_forward_length", 512, "ffn_"),
        ("attention.head_count", 0, "head"),
        ("attention.head_count", 3, "head"),
        ("attention.head_count", u32::MAX, "head"),
        ("attention.head_count_kv", 0, "head"),
        ("attention.head_count_kv", 3, "heads"),
        ("attention.head_count_kv", 4, "attn_k.weight"),
        ("attention.key_length", 32, ""),
        ("rope.dimension_count", 128, ""),
        ("rope.dimension_count", u32::MAX, "rope.dimension_count"),
    ];
    let integers = integers.into_iter().map(|(key, number, says)| {
        let file = changed(base, |f| f.set(&format!("llama.{key}"), Meta::U32(number)));
        Broken::new(format!("{key} = {number}"), &file, says)
    });
    let floats = [
        ("attention.layer_norm_rms_epsilon", f32::NAN, "epsilon"),
        ("attention.layer_norm_rms_epsilon", -1.0, "epsilon"),
        ("rope.freq_base", f32::NAN, ""),
        ("rope.freq_base", 0.0, ""),
    ];
    let floats = floats.into_iter().map(|(key, number, says)| {
        let file = changed(base, |f| f.set(&format!("llama.{key}"), Meta::F32(number)));
        Broken::new(format!("{key} = {number}"), &file, says)
    });
    integers.chain(floats).collect()
}

fn mistyped(base: &GgufFile) -> Vec<Broken> {
    let text = || Meta::Str("2".to_owned());
    let cases = [
        ("general.architecture", Meta::U32(1)),
        ("general.architecture", Meta::Str("mamba".to_owned())),
        ("llama.block_count", text()),
        ("llama.block_count", Meta::I32(-2)),
        ("llama.embedding_length", Meta::F32(64.0)),
        ("llama.attention.head_count", Meta::I32s(vec![4, 4, 4])),
        (
            "llama.attention.head_count",
            Meta::Strs(vec!["4".to_owned(); 2]),
        ),
        ("llama.attention.layer_norm_rms_epsilon", Meta::U32(0)),
        ("llama.rope.scaling.type", Meta::Str("spiral".to_owned())),
        ("tokenizer.ggml.tokens", Meta::I32s(vec![1, 2, 3])),
        ("tokenizer.ggml.tokens", Meta::Str("abc".to_owned())),
        ("tokenizer.ggml.scores", Meta::Strs(vec!["high".to_owned()])),
        ("tokenizer.ggml.token_type", Meta::F32s(vec![1.0])),
        ("tokenizer.ggml.bos_token_id", text()),
        ("tokenizer.ggml.add_bos_token", Meta::U32(1)),
        ("tokenizer.chat_template", Meta::U32(1)),
    ];
    cases
        .into_iter()
        .map(|(key, value)| {
            let name = format!("{key} = {value:.40?}");
            let says = match &value {
                Meta::Str(text) if text.len() > 3 => text.clone(),
                _ => key.to_owned(),
            };
            Broken::new(name, &changed(base, |f| f.set(key, value)), &says)
        })
        .collect()
}

fn tensors(base: &GgufFile) -> Vec<Broken> {
    let missing = [
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.1.ffn_down.weight",
    ];
    let missing = missing.into_iter().map(|name| {
        let file = changed(base, |f| drop(f.remove_tensor(name)));
        Broken::new(format!("no {name}"), &file, name)
    });
    let dims = |name: &str, tensor: &str, dims: &[u64]| {
        let file = changed(base, |f| f.tensor(tensor).dims = dims.to_vec());
        Broken::new(name, &file, tensor)
    };
    let extra = |name: &str, tensor: &str| {
        let file = changed(base, |f| {
            f.tensors.push(TensorSpec {
                name: tensor.to_owned(),
                dims: vec![4],
                ggml_type: 0,
                data: vec![0; 16],
                offset: None,
            });
        });
        Broken::new(name, &file, tensor)
    };
    missing
        .chain([
            extra("a tensor of no meaning", "blk.0.attn_mystery.weight"),
            extra("a layer too many", "blk.2.attn_q.weight"),
            extra("a tensor with a hostile name", "../../etc/passwd"),
            dims("a transposed matrix", "blk.0.ffn_up.weight", &[256, 64]),
            dims("a flat matrix", "blk.0.attn_q.weight", &[64 * 64]),
            dims("a cubic matrix", "blk.0.attn_q.weight", &[32, 2, 64]),
            dims("a norm as a matrix", "blk.0.attn_norm.weight", &[32, 2]),
            dims("a short norm", "output_norm.weight", &[32]),
            Broken::new(
                "an embedding with too few rows",
                &changed(base, |f| {
                    let table = f.tensor("token_embd.weight");
                    table.dims[1] = 100;
                }),
                "",
            ),
        ])
        .collect()
}

/// Weights that turn every logit into NaN: what can only be found by computing.
fn weights(base: &GgufFile) -> Vec<Broken> {
    let nan_half = [0x00, 0x7e];
    let filled = |name: &str, tensor: &str, from: usize, every: usize, value: &[u8]| {
        let file = changed(base, |f| {
            for block in f.tensor(tensor).data.chunks_exact_mut(every) {
                block[from..from + value.len()].copy_from_slice(value);
            }
        });
        Broken::new(name, &file, "NaN")
    };
    let nan = f32::NAN.to_le_bytes();
    vec![
        filled(
            "NaN scales of Q6_K",
            "blk.0.ffn_down.weight",
            208,
            210,
            &nan_half,
        ),
        filled(
            "NaN scales of Q4_K",
            "blk.1.ffn_down.weight",
            0,
            144,
            &nan_half,
        ),
        filled("NaN scales of Q8_0", "token_embd.weight", 0, 34, &nan_half),
        filled("NaN scales of Q4_0", "output.weight", 0, 18, &nan_half),
        filled(
            "NaN minima of Q4_1",
            "blk.0.ffn_gate.weight",
            2,
            20,
            &nan_half,
        ),
        filled("NaN in F16", "blk.1.attn_v.weight", 0, 2, &nan_half),
        filled("NaN in a norm", "output_norm.weight", 0, 4, &nan),
    ]
}

fn vocabularies(base: &GgufFile) -> Vec<Broken> {
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

fn byte_level_vocabularies() -> Vec<Broken> {
    let base = tiny_model::llama_bpe();
    let merges = |name: &str, merges: &[&str]| {
        let merges = Meta::Strs(merges.iter().map(|&merge| merge.to_owned()).collect());
        let file = changed(&base, |f| f.set("tokenizer.ggml.merges", merges));
        Broken::new(name, &file, "merge")
    };
    vec![
        merges("merges without a space", &["he"]),
        merges("merges of unknown parts", &["never heard"]),
        merges("merges that make no token", &["q z"]),
        merges("empty merges", &["", " "]),
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
