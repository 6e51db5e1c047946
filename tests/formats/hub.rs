//! Directories as the Hub lays them out, safetensors files, and things that are neither.

use std::path::Path;

use onward_engine::formats::{HubDirectory, ModelFile, Safetensors, TensorSource};
use onward_kernels::Format;
use onward_tests::tiny_model;

use crate::written;

/// A safetensors file of a header, as it is given, and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

const TWO_TENSORS: &str = r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},
    "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}}"#;

/// A directory with the files of a small model, changed by `change`.
fn directory(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let data: Vec<u8> = (0..20).collect();
    let (directory, path) = written("model.safetensors", &safetensors(TWO_TENSORS, &data));
    let root = path.parent().unwrap();
    for (name, content) in [
        ("config.json", r#"{"model_type":"llama"}"#),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", r#"{"chat_template":"plain"}"#),
        ("generation_config.json", r#"{"eos_token_id":[1,2]}"#),
    ] {
        std::fs::write(root.join(name), content).unwrap();
    }
    change(root);
    directory
}

#[test]
fn a_directory_is_read() {
    let root = directory(|_| ());
    let ModelFile::Hub(hub) = ModelFile::open(root.path()).unwrap() else {
        panic!("a directory is not a GGUF file");
    };
    assert_eq!(hub.config()["model_type"], "llama");
    assert_eq!(hub.generation_config().unwrap()["eos_token_id"][1], 2);
    assert_eq!(hub.tokenizer_json().unwrap(), b"{}");
    assert_eq!(hub.chat_template(), Some("plain"));
    let names: Vec<&str> = hub.weights().names().collect();
    assert_eq!(names, ["a", "b"], "in the order of their bytes");
    let b = hub.weights().tensor("b").unwrap();
    assert_eq!((b.format, b.shape.as_slice()), (Format::Bf16, &[2, 3][..]));
    assert_eq!(b.data, (8..20).collect::<Vec<u8>>());
    assert!(hub.weights().tensor("c").is_none());
}

#[test]
fn chat_templates_are_found_wherever_they_stand() {
    let template = |config: &str, jinja: Option<&str>| {
        let root = directory(|root| {
            std::fs::write(root.join("tokenizer_config.json"), config).unwrap();
            if let Some(jinja) = jinja {
                std::fs::write(root.join("chat_template.jinja"), jinja).unwrap();
            }
        });
        let hub = HubDirectory::open(root.path()).map_err(|error| error.to_string())?;
        Ok::<_, String>(hub.chat_template().map(str::to_owned))
    };
    let some = |text: &str| Ok(Some(text.to_owned()));
    let list =
        r#"{"chat_template":[{"name":"rag","template":"r"},{"name":"default","template":"d"}]}"#;
    assert_eq!(template(list, None), some("d"));
    assert_eq!(template(list, Some("file")), some("file"));
    assert_eq!(
        template(r#"{"chat_template":[{"name":"x","template":"x"}]}"#, None),
        some("x")
    );
    assert_eq!(template(r#"{"chat_template":null}"#, None), Ok(None));
    assert_eq!(template("{}", None), Ok(None));
    assert!(
        template(r#"{"chat_template":7}"#, None)
            .unwrap_err()
            .contains("chat_template")
    );
}

type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn directories_that_are_no_models_are_refused() {
    let cases: [(&str, Change<'_>, &str); 7] = [
        (
            "no config",
            &|root| remove(root, "config.json"),
            "no config.json",
        ),
        (
            "no tokenizer",
            &|root| remove(root, "tokenizer.json"),
            "no tokenizer.json",
        ),
        (
            "no weights",
            &|root| remove(root, "model.safetensors"),
            "no model.safetensors",
        ),
        (
            "split",
            &|root| {
                remove(root, "model.safetensors");
                write(root, "model.safetensors.index.json", "{}");
            },
            "split over several files",
        ),
        (
            "not JSON",
            &|root| write(root, "config.json", "{\"a\":"),
            "config.json: the file is not valid JSON",
        ),
        (
            "a list",
            &|root| write(root, "config.json", "[]"),
            "must hold a JSON object",
        ),
        (
            "nested",
            &|root| write(root, "config.json", &"[".repeat(1_000_000)),
            "recursion limit exceeded",
        ),
    ];
    for (case, change, says) in cases {
        let root = directory(change);
        let sentence = ModelFile::open(root.path()).unwrap_err().to_string();
        assert!(sentence.contains(says), "{case}: {sentence}");
        assert!(!sentence.contains('\n'), "{case}: {sentence}");
    }
}

fn remove(root: &Path, name: &str) {
    std::fs::remove_file(root.join(name)).unwrap();
}

fn write(root: &Path, name: &str, content: &str) {
    std::fs::write(root.join(name), content).unwrap();
}

#[test]
fn broken_safetensors_are_refused() {
    let tensor = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    let max = u64::MAX;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"1234".to_vec(), "ends inside its first eight bytes"),
        (
            max.to_le_bytes().to_vec(),
            "claims to be 18446744073709551615 bytes long",
        ),
        (
            safetensors(TWO_TENSORS, &[])[..50].to_vec(),
            "are left in the file",
        ),
        (safetensors("{", &[]), "the header cannot be used"),
        (safetensors("\u{fffd}", &[]), "the header cannot be used"),
        (
            safetensors(TWO_TENSORS, &[0; 19]),
            "20 bytes of tensors and the file holds 19",
        ),
        (
            safetensors(TWO_TENSORS, &[0; 21]),
            "20 bytes of tensors and the file holds 21",
        ),
        (
            safetensors(&tensor("F32", "[2]", 0, 4), &[0; 4]),
            "the header cannot be used",
        ),
        (
            safetensors(&tensor("F32", "[2]", 8, 0), &[0; 8]),
            "the header cannot be used",
        ),
        (
            safetensors(&tensor("F32", "[2]", 8, 16), &[0; 16]),
            "the header cannot be used",
        ),
        (
            safetensors(&tensor("F32", "[4611686018427387904,4]", 0, 0), &[]),
            "the header cannot be used",
        ),
        (
            safetensors(
                &tensor("U8", "[2305843009213693951]", 0, (1 << 61) - 1),
                &[0; 8],
            ),
            "and the file holds 8",
        ),
        (
            safetensors(&tensor("F32", "[0]", 0, 0), &[]),
            "tensor a has no weights in the shape [0]",
        ),
        (
            safetensors(&tensor("F32", "[]", 0, 4), &[0; 4]),
            "tensor a has no weights in the shape []",
        ),
        (
            safetensors(&tensor("I64", "[1]", 0, 8), &[0; 8]),
            "tensor a has the type I64",
        ),
        (
            safetensors(&tensor("F8_E4M3", "[8]", 0, 8), &[0; 8]),
            "tensor a has the type F8_E4M3",
        ),
    ];
    for (bytes, says) in cases {
        let (_directory, path) = written("model.safetensors", &bytes);
        let sentence = Safetensors::open(&path).unwrap_err().to_string();
        assert!(
            sentence.contains(says),
            "{sentence:?} does not say {says:?}"
        );
        assert!(sentence.contains("model.safetensors: "), "{sentence}");
    }
}

#[test]
fn files_that_are_no_models_are_named() {
    let cases: [(&[u8], &str); 10] = [
        (b"", "the file is empty"),
        (b"G", "not a GGUF file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
            "Git LFS pointer",
        ),
        (b"\n<!DOCTYPE html><html><head>", "web page"),
        (b"tjgg\x03\x00\x00\x00", "legacy GGML"),
        (b"PK\x03\x04\x00\x00", "PyTorch checkpoint"),
        (
            b"{\"model_type\": \"llama\"}",
            "give the directory that holds config.json",
        ),
        (&[0; 64], "begins with zeros"),
        (b"\x10\0\0\0\0\0\0\0{\"a\":{}}        ", "safetensors"),
        (b"just some text", "not a GGUF file"),
    ];
    for (bytes, says) in cases {
        let (_directory, path) = written("model.gguf", bytes);
        let sentence = ModelFile::open(&path).unwrap_err().to_string();
        assert!(
            sentence.contains(says),
            "{sentence:?} does not say {says:?}"
        );
    }
    for path in ["/nowhere/model.gguf", "/dev/null"] {
        let sentence = ModelFile::open(Path::new(path)).unwrap_err().to_string();
        assert!(sentence.starts_with(path), "{sentence}");
    }
    let (_directory, path) = written("whatever.bin", &tiny_model::llama().bytes());
    assert!(
        matches!(ModelFile::open(&path), Ok(ModelFile::Gguf(_))),
        "the name does not matter"
    );
}
