//! `onward batch`: every request is answered once, with the tokens that it gets alone, also where
//! the batch was broken off in between; what is wrong with a file is said before anything is done.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onward_tests::command::{self, Ended};
use onward_tests::golden;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);

struct Batch {
    folder: TempDir,
}

impl Batch {
    fn new(lines: &[Value]) -> Self {
        let batch = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        fs::write(batch.path("in.jsonl"), lines.join("\n") + "\n\n").unwrap();
        batch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self) -> Ended {
        let mut onward = command::onward();
        onward
            .arg("batch")
            .args([self.path("in.jsonl"), self.path("out.jsonl")])
            .arg("-m")
            .arg(golden("families").join("llama"))
            .args(["-c", "256", "--parallel", "3", "--threads", "1"]);
        command::run(&mut onward, "", LIMIT)
    }

    /// The answers by their requests' names.
    fn answers(&self) -> HashMap<String, Value> {
        let text = fs::read_to_string(self.path("out.jsonl")).unwrap();
        let mut answers = HashMap::new();
        for line in text.lines() {
            let answer: Value = serde_json::from_str(line).unwrap();
            let name = answer["custom_id"].as_str().unwrap().to_owned();
            assert!(answers.insert(name, answer).is_none(), "two answers");
        }
        answers
    }
}

fn line(name: &str, url: &str, body: Value) -> Value {
    json!({"custom_id": name, "method": "POST", "url": url, "body": body})
}

fn completion(name: &str, prompt: &str, seed: u64) -> Value {
    let body = json!({
        "model": "any", "prompt": prompt, "max_tokens": 12, "seed": seed, "ignore_eos": true,
    });
    line(name, "/v1/completions", body)
}

/// What `onward generate` writes for the same request.
fn alone(prompt: &str, seed: u64) -> String {
    let mut onward = command::onward();
    onward
        .args(["generate", "-m"])
        .arg(golden("families").join("llama"))
        .args([
            "-c",
            "256",
            "-n",
            "12",
            "--ignore-eos",
            "--threads",
            "1",
            "--seed",
        ])
        .args([&seed.to_string(), prompt]);
    let ended = command::run(&mut onward, "", LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.trim_end_matches('\n').to_owned()
}

fn text(answer: &Value) -> &str {
    let text = &answer["response"]["body"]["choices"][0]["text"];
    text.as_str().unwrap().trim_end_matches('\n')
}

#[test]
fn every_request_is_answered_as_if_it_were_alone() {
    let names = ["a", "b", "c", "d", "e"];
    let mut lines: Vec<_> = (1..)
        .zip(names)
        .map(|(seed, name)| completion(name, "ab abc", seed))
        .collect();
    lines.push(line("vector", "/v1/embeddings", json!({"input": "ab"})));
    let batch = Batch::new(&lines);
    let ended = batch.run();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), ""),
        "{}",
        ended.stderr
    );
    let answers = batch.answers();
    assert_eq!(answers.len(), 6);
    for (seed, name) in (1..).zip(names) {
        let answer = &answers[name];
        assert_eq!(answer["response"]["status_code"], 200);
        assert_eq!(answer["error"], Value::Null);
        assert_eq!(text(answer), alone("ab abc", seed), "{name}");
    }
    let vector = &answers["vector"]["response"]["body"]["data"][0]["embedding"];
    assert_eq!(vector.as_array().unwrap().len(), 64);
}

#[test]
fn a_batch_goes_on_where_it_was_broken_off() {
    let lines: Vec<_> = (0..4)
        .map(|i| completion(&i.to_string(), "ab", i))
        .collect();
    let batch = Batch::new(&lines);
    assert_eq!(batch.run().code, Some(0));
    let whole = batch.answers();
    let out = batch.path("out.jsonl");
    let written = fs::read_to_string(&out).unwrap();

    // Broken off in the middle of the third line.
    let ends: Vec<_> = written.match_indices('\n').map(|(at, _)| at + 1).collect();
    fs::write(&out, &written[..ends[1] + 20]).unwrap();
    let ended = batch.run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("2 of 4 are done already"),
        "{}",
        ended.stderr
    );
    let again = fs::read_to_string(&out).unwrap();
    assert!(
        again.starts_with(&written[..ends[1]]),
        "what was there stays"
    );
    for (name, answer) in batch.answers() {
        assert_eq!(text(&answer), text(&whole[&name]));
    }
    // Nothing is left to do, and nothing is loaded for it.
    let ended = batch.run();
    assert_eq!(
        (ended.code, fs::read_to_string(&out).unwrap()),
        (Some(0), again)
    );
}

#[test]
fn a_failed_request_says_why_and_is_tried_again() {
    let mut wrong = completion("wrong", "ab", 1);
    wrong["body"]["temperature"] = json!("hot");
    let batch = Batch::new(&[completion("right", "ab", 1), wrong]);
    let ended = batch.run();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("1 request of 2 failed"),
        "{}",
        ended.stderr
    );
    let answers = batch.answers();
    assert_eq!(answers["right"]["response"]["status_code"], 200);
    assert_eq!(answers["wrong"]["response"]["status_code"], 400);
    let message = answers["wrong"]["error"]["message"].as_str().unwrap();
    assert!(message.contains("temperature"), "{message}");

    fs::write(
        batch.path("in.jsonl"),
        format!(
            "{}\n{}\n",
            completion("right", "ab", 1),
            completion("wrong", "ab", 1)
        ),
    )
    .unwrap();
    assert_eq!(batch.run().code, Some(0));
    assert_eq!(text(&batch.answers()["wrong"]), text(&answers["right"]));
}

#[test]
fn a_file_that_is_no_batch_is_refused_before_anything_is_done() {
    let refused = |batch: &Batch, said: &str| {
        let ended = batch.run();
        assert_eq!(ended.code, Some(1), "{said}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    };
    let twice = Batch::new(&[
        completion("a", "x", 1),
        completion("b", "x", 1),
        completion("a", "y", 2),
    ]);
    refused(&twice, "line 3: the custom_id \"a\" was there already");
    assert!(!twice.path("out.jsonl").exists());
    let odd = Batch::new(&[line("a", "/v1/files", json!({}))]);
    refused(&odd, "line 1: url is \"/v1/files\"");
    let batch = Batch::new(&[completion("a", "x", 1)]);
    let out = batch.path("out.jsonl");
    fs::write(&out, "a diary\n").unwrap();
    refused(&batch, "line 1 is no answer of a batch");
    assert_eq!(fs::read_to_string(&out).unwrap(), "a diary\n");
    fs::remove_file(batch.path("in.jsonl")).unwrap();
    refused(&batch, "cannot read");
    assert!(Path::new(&out).exists());
}
