//! Files that are sound as GGUF and describe no model that could run.

use super::{Broken, changed, vocabulary};
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
    all.extend(vocabulary::all(&base));
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
        ("embedding_length", 32, ""),
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
        ("general.architecture", Meta::Str("long".repeat(10_000))),
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
                Meta::Str(text) if text.len() > 3 => text.chars().take(40).collect(),
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
        Broken::new(name, &file, tensor.split('\n').next().unwrap_or(tensor))
    };
    missing
        .chain([
            extra("a tensor of no meaning", "blk.0.attn_mystery.weight"),
            extra("a layer too many", "blk.2.attn_q.weight"),
            extra("a tensor that clears the screen", "two\n\x1b[2Jlines"),
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

/// Weights that are no numbers. Scales are looked at as they are read; what floats hold can only be
/// found by computing.
fn weights(base: &GgufFile) -> Vec<Broken> {
    const NAN_HALF: [u8; 2] = [0x00, 0x7e];
    const INFINITE_HALF: [u8; 2] = [0x00, 0x7c];
    const IN_LOGITS: &str = "the logits hold";
    let filled = |name: &str, tensor: &str, from: usize, every: usize, value: &[u8]| {
        changed(base, |f| {
            let spec = f.tensor(tensor);
            if name.ends_with("MXFP4") {
                spec.ggml_type = 39;
                spec.data = vec![0x77; spec.data.len() / 20 * 17];
            }
            for block in spec.data.chunks_exact_mut(every) {
                block[from..from + value.len()].copy_from_slice(value);
            }
        })
    };
    let scales: [(&str, &str, usize, usize, &[u8]); 7] = [
        (
            "NaN scales of Q6_K",
            "blk.0.ffn_down.weight",
            208,
            210,
            &NAN_HALF,
        ),
        (
            "NaN scales of Q4_K",
            "blk.1.ffn_down.weight",
            0,
            144,
            &NAN_HALF,
        ),
        ("NaN scales of Q8_0", "token_embd.weight", 0, 34, &NAN_HALF),
        ("NaN scales of Q4_0", "output.weight", 0, 18, &NAN_HALF),
        (
            "NaN minima of Q4_1",
            "blk.0.ffn_gate.weight",
            2,
            20,
            &NAN_HALF,
        ),
        (
            "infinite scales of Q8_0",
            "token_embd.weight",
            0,
            34,
            &INFINITE_HALF,
        ),
        (
            "NaN scales of MXFP4",
            "blk.0.ffn_gate.weight",
            0,
            17,
            &[255],
        ),
    ];
    let scales = scales.map(|(name, tensor, from, every, value)| {
        let format = name.rsplit(' ').next().unwrap_or(name);
        let says = format!("tensor {tensor}: its {format} data hold a scale that is");
        Broken::new(name, &filled(name, tensor, from, every, value), &says)
    });
    let nan = f32::NAN.to_le_bytes();
    let floats: [(&str, &str, usize, &[u8]); 2] = [
        ("NaN in F16", "blk.1.attn_v.weight", 2, &NAN_HALF),
        ("NaN in a norm", "output_norm.weight", 4, &nan),
    ];
    let floats = floats.map(|(name, tensor, every, value)| {
        Broken::new(name, &filled(name, tensor, 0, every, value), IN_LOGITS)
    });
    scales.into_iter().chain(floats).collect()
}

/// Models that look odd and are not broken.
pub fn odd_but_sound() -> Vec<(&'static str, GgufFile)> {
    let base = tiny_model::llama();
    let bpe = tiny_model::llama_bpe();
    let merges = |file: &mut GgufFile, nonsense: &str| {
        for (key, value) in &mut file.metadata {
            if let (Meta::Strs(merges), "tokenizer.ggml.merges") = (value, key.as_str()) {
                merges.push(nonsense.to_owned());
            }
        }
    };
    let set = |key: &str, value: Meta| changed(&base, |f| f.set(key, value));
    vec![
        (
            "a merge of unknown parts",
            changed(&bpe, |f| merges(f, "never heard")),
        ),
        (
            "a merge that makes no token",
            changed(&bpe, |f| merges(f, "q z")),
        ),
        (
            "a context of a million",
            set("llama.context_length", Meta::U32(1 << 20)),
        ),
        (
            "an empty array",
            set("general.tags", Meta::Strs(Vec::new())),
        ),
        ("an unknown key", set("somebody.else", Meta::U64(u64::MAX))),
        (
            "a number of another width",
            set("llama.block_count", Meta::U64(2)),
        ),
        (
            "a name that clears the screen",
            set("general.name", Meta::Str("\u{1b}[2J\n\u{7}".to_owned())),
        ),
        (
            "a long name",
            set("general.name", Meta::Str("long ".repeat(100_000))),
        ),
        (
            "heads listed by layer",
            set("llama.attention.head_count_kv", Meta::I32s(vec![2, 2])),
        ),
        (
            "no vocabulary size",
            changed(&base, |f| f.remove("llama.vocab_size")),
        ),
    ]
}
