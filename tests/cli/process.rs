//! `onward` as a process: signals, closed pipes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{QWEN, command, model};

/// A generation that goes on for a long time, but not for ever if nothing stops it.
const ENDLESS: [&str; 7] = [
    "generate",
    "One day,",
    "-n",
    "3000",
    "--ignore-eos",
    "--temp",
    "1",
];

fn start(args: &[&str]) -> Child {
    command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let status = Command::new("kill").args([name, &pid]).status();
    assert!(status.expect("kill runs").success());
}

/// Waits for the end, which must come soon; the exit code and stderr.
fn end(mut child: Child) -> (Option<i32>, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("the child can be killed");
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().expect("stderr is piped");
    pipe.read_to_string(&mut stderr).expect("stderr is UTF-8");
    (status.code(), stderr)
}

#[test]
fn ctrl_c_stops_with_what_there_is() {
    let mut child = start(&[&ENDLESS[..], &["--json"]].concat());
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    lines.next().expect("a token").expect("UTF-8");
    signal(&child, "-INT");
    let interrupted = Instant::now();
    let rest: Vec<_> = lines.map(|line| line.expect("UTF-8")).collect();
    assert!(interrupted.elapsed() < Duration::from_secs(5));
    let done: Value = serde_json::from_str(rest.last().expect("a done line")).expect("JSON");
    assert_eq!(done["done"]["reason"], "interrupted");
    assert_eq!(
        done["done"]["new_tokens"],
        rest.len(),
        "every token has a line"
    );
    let (code, stderr) = end(child);
    assert_eq!(code, Some(130));
    assert!(stderr.trim_end().ends_with(", interrupted"), "{stderr}");
}

#[test]
fn ctrl_c_ends_streamed_text_with_a_line_end() {
    let mut child = start(&ENDLESS);
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut text = vec![0];
    stdout.read_exact(&mut text).expect("text");
    signal(&child, "-TERM");
    stdout.read_to_end(&mut text).expect("the rest of the text");
    assert_eq!(text.last(), Some(&b'\n'));
    assert_eq!(end(child).0, Some(130));
}

#[test]
fn a_signal_where_nothing_is_under_way_ends_the_process_at_once() {
    let qwen = model(QWEN);
    let mut child = command(&["chat", "-m", &qwen, "-n", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // An answer shows that it has loaded; then it waits for the next line.
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::io::Write::write_all(&mut stdin, b"Hi\n").expect("it reads");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    stdout.read_line(&mut String::new()).expect("an answer");
    let mut stderr = BufReader::new(child.stderr.as_mut().expect("stderr is piped"));
    stderr.read_line(&mut String::new()).expect("figures");
    std::thread::sleep(Duration::from_millis(50));
    signal(&child, "-INT");
    assert_eq!(end(child).0, Some(130));
}

#[test]
fn a_reader_that_has_had_enough_ends_it_quietly() {
    for json in [&[][..], &["--json"]] {
        let mut child = start(&[&ENDLESS[..], json].concat());
        let mut stdout = child.stdout.take().expect("stdout is piped");
        stdout.read_exact(&mut [0]).expect("some output");
        drop(stdout);
        let (code, stderr) = end(child);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_closed_stderr_does_not_matter() {
    let child = command(&["generate", "One day,", "-n", "3", "--verbose-prompt"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the binary runs");
    drop(child.stderr.take());
    let output = child
        .wait_with_output()
        .expect("the child can be waited for");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.ends_with(b"\n"));
}
