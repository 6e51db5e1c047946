//! Sound GGUF files.
//!
//! Real models are held to what the `gguf` package finds in them (`golden/gguf/make.py`).

use onward_engine::formats::gguf::{Value, ValueType};
use onward_engine::formats::{Gguf, TensorSource};
use onward_kernels::Format;
use onward_kernels::quant::quantise;
use onward_tests::gguf_file::{GgufFile, Meta, TensorSpec};
use onward_tests::{GEMMA, QWEN, golden_json, model_path, tiny_model};

use crate::written;

fn open(file: &GgufFile) -> Gguf {
    let (_directory, path) = written("model.gguf", &file.bytes());
    Gguf::open(&path).unwrap()
}

#[test]
fn the_tiny_model_is_read_as_it_was_written() {
    for file in [tiny_model::llama(), tiny_model::llama_bpe()] {
        let gguf = open(&file);
        assert_eq!((gguf.version(), gguf.alignment()), (3, 32));
        let keys: Vec<&str> = gguf.metadata().map(|(key, _)| key).collect();
        let written: Vec<&str> = file.metadata.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, written);
        for (view, spec) in gguf.tensors().zip(&file.tensors) {
            let dims: Vec<u64> = view.shape.iter().rev().map(|&dim| dim as u64).collect();
            assert_eq!((view.name, &dims), (spec.name.as_str(), &spec.dims));
            assert_eq!(view.format.ggml_type(), Some(spec.ggml_type));
            assert_eq!(view.data, spec.data, "{}", spec.name);
            assert_eq!(gguf.tensor(view.name).unwrap().data, spec.data);
        }
        assert_eq!(gguf.names().count(), file.tensors.len());
        assert!(gguf.tensor("blk.2.attn_q.weight").is_none());
        let q6_k = gguf.tensor_bytes_by_format()[&Format::Q6K];
        assert_eq!(q6_k, 64 * 210, "64 rows of one block");
    }
}

/// Type numbers as ggml has them.
#[test]
fn every_format_of_gguf_is_read() {
    let formats = Format::ALL.into_iter().filter(|f| f.ggml_type().is_some());
    let types = [0, 1, 30, 2, 3, 6, 7, 8, 12, 13, 14, 39];
    for (format, ggml_type) in formats.zip(types) {
        let data = quantise(format, &[0.5; 512]).unwrap();
        let mut file = tiny_model::llama();
        file.tensors.push(TensorSpec {
            name: "t.odd".to_owned(),
            dims: vec![256, 2],
            ggml_type,
            data: data.clone(),
            offset: None,
        });
        let gguf = open(&file);
        let view = gguf.tensor("t.odd").unwrap();
        assert_eq!((view.format, view.shape), (format, vec![2, 256]));
        assert_eq!(view.data, data);
    }
}

#[test]
fn version_2_and_other_alignments_are_read() {
    let mut file = tiny_model::llama();
    file.version = 2;
    for alignment in [8, 64, 4096] {
        file.alignment = alignment;
        file.set("general.alignment", Meta::U32(alignment as u32));
        let gguf = open(&file);
        assert_eq!(gguf.alignment(), alignment as u64);
        for (view, spec) in gguf.tensors().zip(&file.tensors) {
            assert_eq!(view.data, spec.data, "{} at {alignment}", spec.name);
        }
    }
}

#[test]
fn values_are_had_by_type() {
    let mut file = tiny_model::llama();
    file.set("t.small", Meta::U8(7));
    file.set("t.wide", Meta::U64(7));
    file.set("t.negative", Meta::I32(-7));
    file.set("t.huge", Meta::U64(1 << 40));
    file.set("t.layers", Meta::I32s(vec![3, 4]));
    file.set(
        "t.bools",
        Meta::Raw(9, [7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0].to_vec()),
    );
    let gguf = open(&file);
    for key in ["t.small", "t.wide"] {
        assert_eq!(gguf.required_u32(key).unwrap(), 7);
        assert_eq!(gguf.per_layer_u32(key, 2).unwrap(), Some(vec![7, 7]));
    }
    assert_eq!(gguf.per_layer_u32("t.layers", 2).unwrap(), Some(vec![3, 4]));
    assert_eq!(gguf.i32s("t.layers").unwrap(), Some(vec![3, 4]));
    assert_eq!(gguf.bools("t.bools").unwrap(), Some(vec![true, false]));
    assert_eq!(gguf.optional_f32("t.missing").unwrap(), None);
    assert_eq!(gguf.strings("t.missing").unwrap(), None);
    assert_eq!(gguf.required_str("general.architecture").unwrap(), "llama");
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!((tokens[1], tokens[3 + 65]), ("<s>", "<0x41>"));

    let refusals = [
        (
            gguf.required_u32("t.negative").map(drop),
            "t.negative is the i32 -7",
        ),
        (
            gguf.required_u32("t.huge").map(drop),
            "must be an integer from 0 to 4294967295",
        ),
        (
            gguf.required_u32("t.missing").map(drop),
            "t.missing is missing",
        ),
        (gguf.required_f32("t.small").map(drop), "must be a float"),
        (gguf.optional_bool("t.small").map(drop), "must be a bool"),
        (
            gguf.required_str("t.layers").map(drop),
            "is an array of 2 i32, and must be a string",
        ),
        (
            gguf.strings("t.layers").map(drop),
            "must be an array of strings",
        ),
        (
            gguf.u32s("tokenizer.ggml.tokens").map(drop),
            "must be an array of integers",
        ),
        (gguf.f32s("t.small").map(drop), "must be an array of floats"),
        (
            gguf.per_layer_u32("t.layers", 3).map(drop),
            "has 2 numbers, and the model has 3 layers",
        ),
    ];
    for (refusal, says) in refusals {
        let sentence = refusal.unwrap_err().to_string();
        assert!(
            sentence.contains(says),
            "{sentence:?} does not say {says:?}"
        );
        assert!(sentence.contains("model.gguf: key "), "{sentence}");
    }
}

/// FNV-1a over the elements, each followed by a zero byte; as in `make.py`.
fn fnv(elements: impl Iterator<Item = String>) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for element in elements {
        for byte in element.bytes().chain([0]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    format!("{state:016x}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scalar(value: &Value) -> String {
    match value {
        Value::F32(x) => hex(&x.to_le_bytes()),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn array_hash(gguf: &Gguf, key: &str, element: ValueType) -> String {
    match element {
        ValueType::String => fnv(gguf
            .strings(key)
            .unwrap()
            .unwrap()
            .iter()
            .map(|s| s.to_string())),
        ValueType::F32 => fnv(gguf
            .f32s(key)
            .unwrap()
            .unwrap()
            .iter()
            .map(|x| hex(&x.to_le_bytes()))),
        _ => fnv(gguf.i32s(key).unwrap().unwrap().iter().map(i32::to_string)),
    }
}

fn tensor_hash(gguf: &Gguf) -> String {
    fnv(gguf.tensors().map(|view| {
        let dims: Vec<String> = view.shape.iter().rev().map(usize::to_string).collect();
        format!(
            "{} {} {} {} {}{}",
            view.name,
            view.format,
            dims.join("x"),
            view.data.len(),
            hex(&view.data[..16]),
            hex(&view.data[view.data.len() - 16..]),
        )
    }))
}

#[test]
fn real_models_hold_what_the_gguf_package_finds() {
    let golden: serde_json::Value = golden_json("gguf/models.json");
    for name in [GEMMA, QWEN] {
        let facts = &golden[name];
        let gguf = Gguf::open(&model_path(name)).unwrap();
        let mut scalars = Vec::new();
        let mut arrays = Vec::new();
        for (key, value) in gguf.metadata() {
            match value {
                Value::Array(array) => {
                    let hash = array_hash(&gguf, key, array.element());
                    arrays.push(serde_json::json!([key, array.len(), hash]));
                }
                other => scalars.push(serde_json::json!([key, scalar(other)])),
            }
        }
        assert_eq!(serde_json::json!(scalars), facts["scalars"], "{name}");
        assert_eq!(serde_json::json!(arrays), facts["arrays"], "{name}");
        assert_eq!(gguf.tensors().count() as u64, facts["tensors"], "{name}");
        assert_eq!(tensor_hash(&gguf), facts["tensor_table"], "{name}");
    }
}
