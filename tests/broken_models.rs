//! Broken model files at the command: whatever is wrong with a file, `onward` says so in one
//! sentence and fails, within a second and a hundred megabytes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use onward_tests::broken::{Broken, layout, meaning, templates};
use onward_tests::command::{Ended, onward, run};
use onward_tests::gguf_file::GgufFile;
use onward_tests::tiny_model;

const TIME_LIMIT: Duration = Duration::from_secs(1);
const MEMORY_LIMIT: u64 = 100_000_000;

fn generate(model: &Path) -> Command {
    generate_with(model, &["-n", "1"])
}

fn generate_with(model: &Path, flags: &[&str]) -> Command {
    let mut command = onward();
    command
        .args(["generate", "the word", "--temp", "0", "-t", "1"])
        .args(flags)
        .arg("-m")
        .arg(model);
    command
}

fn chat(model: &Path) -> Command {
    generate_with(model, &["-n", "1", "--chat"])
}

fn inspect(model: &Path) -> Command {
    let mut command = onward();
    command.arg("inspect").arg(model);
    command
}

/// What is wrong with how the command failed.
fn complaint(ended: &Ended, file: Option<&Path>, says: &str) -> Option<String> {
    let stderr = ended.stderr.trim_end();
    let clauses = [
        (
            !ended.timed_out && ended.elapsed < TIME_LIMIT,
            "it took more than a second",
        ),
        (ended.code == Some(1), "the exit code is not 1"),
        (!stderr.is_empty(), "nothing was said"),
        (!stderr.contains(['\n', '\x1b']), "it was not one line"),
        (!stderr.contains("panicked"), "it panicked"),
        (stderr.contains(says), "it does not say what it should"),
        (
            file.is_none_or(|path| stderr.contains(&*path.to_string_lossy())),
            "it does not name the file",
        ),
        (stderr.chars().count() < 1100, "it is long"),
        (ended.stdout.is_empty(), "something was written to stdout"),
        (ended.peak_memory < MEMORY_LIMIT, "it took more than 100 MB"),
    ];
    let (_, what) = clauses.into_iter().find(|(holds, _)| !holds)?;
    let shown: String = stderr.chars().take(1200).collect();
    Some(format!(
        "{what} (wanted {says:?}; code {:?}, {:?}, {} kB): {shown}",
        ended.code,
        ended.elapsed,
        ended.peak_memory / 1000
    ))
}

/// Runs every file through `command` and reports all that fail in the wrong way.
fn assert_refused(all: &[Broken], names_file: bool, command: impl Fn(&Path) -> Command) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.gguf");
    let complaints: Vec<String> = all
        .iter()
        .filter_map(|broken| {
            broken.write(&path).unwrap();
            let ended = run(&mut command(&path), "", 5 * TIME_LIMIT);
            let file = names_file.then_some(path.as_path());
            complaint(&ended, file, &broken.says).map(|what| format!("{}: {what}", broken.name))
        })
        .collect();
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        all.len(),
        complaints.join("\n")
    );
}

fn assert_runs(file: &GgufFile, command: impl Fn(&Path) -> Command) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sound.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    let ended = run(&mut command(&path), "", 5 * TIME_LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.peak_memory < MEMORY_LIMIT,
        "{} bytes",
        ended.peak_memory
    );
    ended.stdout
}

/// Without this, a test that everything broken fails would pass with a command that always does.
#[test]
fn the_sound_models_run() {
    for file in [tiny_model::llama(), tiny_model::llama_bpe()] {
        let stdout = assert_runs(&file, |model| {
            generate_with(model, &["-n", "24", "--ignore-eos", "--json"])
        });
        assert_eq!(
            stdout.lines().count(),
            25,
            "24 tokens and the end: {stdout}"
        );
        assert_runs(&file, chat);
        assert!(assert_runs(&file, inspect).contains("llama"));
    }
}

#[test]
fn odd_models_run() {
    for (name, file) in meaning::odd_but_sound() {
        println!("{name}");
        assert_runs(&file, generate);
        let description = assert_runs(&file, inspect);
        assert!(!description.contains('\x1b'), "{name}: {description:?}");
    }
}

#[test]
fn broken_layouts_fail_in_one_sentence() {
    assert_refused(&layout::all(), true, generate);
}

#[test]
fn inspect_refuses_broken_layouts_too() {
    assert_refused(&layout::all(), true, inspect);
}

#[test]
fn files_cut_short_fail_in_one_sentence() {
    assert_refused(&layout::some_cuts(), true, generate);
}

#[test]
fn models_that_make_no_sense_fail_in_one_sentence() {
    assert_refused(&meaning::all(), false, generate);
}

#[test]
fn hostile_templates_fail_in_one_sentence() {
    assert_refused(&templates::all(), false, chat);
}
