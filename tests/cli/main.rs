//! The `onward` command as its users see it: what it prints where, how it ends, what it refuses.
//!
//! Every test runs the binary that cargo built beside this test's own, on the models in the
//! cache (`make models`): Gemma 3 270M, a base model with a BOS, which is used where none is named,
//! and Qwen2.5-Coder 0.5B Instruct, which has no BOS but a chat template.

mod chat;
mod generate;
mod measure;
mod process;
mod streams;
mod text;
mod usage;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use onward_tests::{GEMMA, QWEN};
use serde_json::Value;

/// What a run of the command left behind.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// The binary under test.
fn binary() -> PathBuf {
    onward_tests::command::onward().get_program().into()
}

/// A command with these arguments and no input.
fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .env_remove("NO_COLOR")
        .env_remove("ONWARD_LOG")
        .stdin(Stdio::null());
    command
}

/// Runs the command to its end.
fn onward<S: AsRef<OsStr>>(args: &[S]) -> Run {
    finish(command(args))
}

/// Runs the command with `input` on its stdin.
fn onward_reading<S: AsRef<OsStr>>(args: &[S], input: &str) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("stdin");
    std::fs::write(&path, input).expect("a temporary file");
    let mut command = command(args);
    command.stdin(std::fs::File::open(&path).expect("the file just written"));
    finish(command)
}

fn finish(mut command: Command) -> Run {
    let output = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Run {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

impl Run {
    /// The run, which must have succeeded.
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self
    }

    /// Stdout as JSON, one value a line.
    #[track_caller]
    fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Stdout as the one JSON value it holds.
    #[track_caller]
    fn json(&self) -> Value {
        let [value] = &self.json_lines()[..] else {
            panic!("not one line: {}", self.stdout);
        };
        value.clone()
    }

    /// Asserts that the run failed with one sentence that has all these parts.
    #[track_caller]
    fn failed_saying(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "stderr: {}", self.stderr);
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {}", self.stderr);
        }
    }
}

/// A model in the cache, as an argument.
fn model(name: &str) -> String {
    onward_tests::model_path(name).display().to_string()
}

/// The keys of a JSON object, in its order.
#[track_caller]
fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
