//! Random damage to a sound model: whatever it becomes, loading it and generating from it ends
//! in tokens or in an error, never in a panic.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Request};
use onward_kernels::Reference;
use onward_tests::broken::fresh;
use onward_tests::gguf_file::{GgufFile, Written};
use onward_tests::tiny_model::{self, Random};

/// Overwrites a few numbers, most of them where a field begins; now and then cuts the end off.
fn damage(written: &Written, random: &mut Random) -> Vec<u8> {
    const EXTREMES: [u64; 8] = [0, 1, 3, 7, 255, 1 << 31, 1 << 32, u64::MAX];
    let mut bytes = written.bytes.clone();
    for _ in 0..1 + random.below(3) {
        let place = match random.below(4) {
            0 => random.below(bytes.len()),
            _ => written.boundaries[random.below(written.boundaries.len())],
        };
        let number = match random.below(3) {
            0 => u64::from(random.bits()),
            _ => EXTREMES[random.below(EXTREMES.len())],
        };
        let len = [1, 2, 4, 8][random.below(4)].min(bytes.len() - place);
        bytes[place..place + len].copy_from_slice(&number.to_le_bytes()[..len]);
    }
    if random.below(16) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}

/// Loads the file, renders its chat template and generates two tokens.
fn use_model(path: &Path) -> Result<usize, String> {
    let one_line = |error: &dyn std::error::Error| {
        let sentence = error.to_string();
        assert!(!sentence.is_empty());
        sentence
    };
    let file = ModelFile::open(path).map_err(|error| one_line(&error))?;
    let options = EngineOptions {
        n_ctx: Some(64),
        n_sequences: 1,
        chunk: 16,
        ..EngineOptions::default()
    };
    let mut engine = Engine::load(&file, Reference::new(), &options, &mut |_| ())
        .map_err(|error| one_line(&error))?;
    let prompt = engine.tokenizer().encode("the word", true);
    let request = Request {
        max_tokens: Some(2),
        ..Request::new(prompt.map_err(|error| one_line(&error))?)
    };
    engine
        .generate(&request, &mut |_| ControlFlow::Continue(()))
        .map(|completion| completion.new_tokens)
        .map_err(|error| one_line(&error))
}

fn try_damage(file: &GgufFile, seed: u64) {
    const TRIES: usize = 1500;
    let written = file.write();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.gguf");
    let mut random = Random(seed);
    let mut used = 0;
    for attempt in 0..TRIES {
        let bytes = damage(&written, &mut random);
        fresh(&path).unwrap().write_all(&bytes).unwrap();
        let result = std::panic::catch_unwind(|| use_model(&path));
        let result = result.unwrap_or_else(|_| panic!("attempt {attempt} of seed {seed} panicked"));
        used += usize::from(result.is_ok());
    }
    // Both ways out must have been taken, or the damage is too light or too heavy to tell.
    assert!(
        (TRIES / 20..TRIES * 19 / 20).contains(&used),
        "{used} of {TRIES}"
    );
}

#[test]
fn a_damaged_model_never_panics() {
    try_damage(&tiny_model::llama(), 11);
}

#[test]
fn a_damaged_model_with_merges_never_panics() {
    try_damage(&tiny_model::llama_bpe(), 12);
}
