//! `tokenize`: text to ids and back.

use serde_json::json;

use super::{QWEN, model, onward, onward_reading};

#[test]
fn text_becomes_ids_without_a_bos_unless_asked() {
    let ids = |args: &[&str]| {
        onward(&[&["tokenize", "--json"], args].concat())
            .ok()
            .json()
    };
    let gemma = json!([9259, 236_764, 1902, 236_888]);
    assert_eq!(ids(&["Hello, world!"]), json!({"ids": gemma}));
    let with_bos = json!({"ids": [2, 9259, 236_764, 1902, 236_888]});
    assert_eq!(ids(&["Hello, world!", "--bos"]), with_bos);
    assert_eq!(
        ids(&["-m", &model(QWEN), "Hello, world!"]),
        json!({"ids": [9707, 11, 1879, 0]})
    );
    assert_eq!(ids(&[""]), json!({"ids": []}));
}

#[test]
fn special_tokens_are_read_as_such() {
    let args = [
        "tokenize",
        "-m",
        &model(QWEN),
        "<|im_start|>user<|im_end|>",
        "--json",
    ];
    assert_eq!(
        onward(&args).ok().json(),
        json!({"ids": [151_644, 872, 151_645]})
    );
}

#[test]
fn ids_become_the_text_they_came_from() {
    let text = "Grüße, 世界! 🦀\n\tand  so on";
    let json = onward_reading(&["tokenize", "--json"], text).ok().json();
    let ids: Vec<_> = json["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let joined = ids.join(",");
    let back = onward(&["tokenize", "--decode", &joined, "--json"])
        .ok()
        .json();
    assert_eq!(back, json!({"text": text}));
    assert_eq!(
        onward(&["tokenize", "--decode", &joined]).ok().stdout,
        format!("{text}\n")
    );
}

#[test]
fn a_file_is_read_as_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("text");
    std::fs::write(&path, "Hello, world!\n").expect("a file");
    let file = path.to_str().expect("a path in UTF-8");
    let run = onward(&["tokenize", "-f", file]).ok();
    let listed: Vec<_> = run.stdout.lines().map(str::trim).collect();
    assert_eq!(
        listed,
        [
            "9259  \"Hello\"",
            "236764  \",\"",
            "1902  \" world\"",
            "236888  \"!\"",
            "107  \"\\n\""
        ]
    );
    std::fs::write(&path, b"Hello \xff").expect("a file");
    onward(&["tokenize", "-f", file]).failed_saying(&["is not UTF-8", "offset 6"]);
}

#[test]
fn ids_beyond_the_vocabulary_are_refused() {
    onward(&["tokenize", "--decode", "1,262144"]).failed_saying(&["262144"]);
}
