//! Help, usage errors, failures, completions.

use std::process::Command;

use super::{command, finish, onward};

#[test]
fn help_names_every_command_and_shows_examples() {
    let help = onward(&["--help"]).ok().stdout;
    let commands = [
        "generate",
        "chat",
        "serve",
        "next",
        "tokenize",
        "perplexity",
        "inspect",
        "doctor",
        "completions",
    ];
    for name in commands {
        assert!(
            help.contains(&format!("\n  {name} ")),
            "no {name} in {help}"
        );
        let own = onward(&[name, "--help"]).ok().stdout;
        assert!(own.contains("Examples:\n  "), "{name}: {own}");
        assert!(
            own.lines().all(|line| line.chars().count() <= 100),
            "{name}: {own}"
        );
    }
    assert!(
        help.contains("Examples:") && help.contains("Exit codes:"),
        "{help}"
    );
    let generate = onward(&["generate", "--help"]).ok().stdout;
    for heading in [
        "Sampling:",
        "Model:",
        "Conversation:",
        "Options:",
        "Arguments:",
    ] {
        assert!(
            generate.contains(&format!("\n{heading}\n")),
            "no {heading} in {generate}"
        );
    }
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_right() {
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["Usage: onward"]),
        (&["sing"], &["unrecognized subcommand 'sing'"]),
        (
            &["generate", "x", "-n", "-2"],
            &["--max-tokens", "-1 for no limit"],
        ),
        (&["generate", "x", "-n", "many"], &["from 1 up"]),
        (&["generate", "x", "-n", "0"], &["from 1 up"]),
        (&["generate", "x", "-t", "0"], &["--threads", "1 to 1024"]),
        (
            &["generate", "x", "-t", "100000"],
            &["--threads", "1 to 1024"],
        ),
        (
            &["generate", "x", "-c", "0"],
            &["--ctx-size", "1 to 16777216"],
        ),
        (
            &["generate", "x", "--chunk", "65537"],
            &["--chunk", "1 to 65536"],
        ),
        (
            &["generate", "x", "--top-k", "-1"],
            &["--top-k", "from 0 up"],
        ),
        (&["generate", "x", "--temp", "-1"], &["--temp", "from 0 up"]),
        (
            &["generate", "x", "--temp", "nan"],
            &["--temp", "from 0 up"],
        ),
        (
            &["generate", "x", "--top-p", "1.5"],
            &["--top-p", "from 0 to 1"],
        ),
        (
            &["generate", "x", "--repeat-penalty", "0"],
            &["--repeat-penalty", "above 0"],
        ),
        (
            &["generate", "x", "--logit-bias", "5"],
            &["--logit-bias", "42=-1.5"],
        ),
        (&["generate", "x", "--stop", ""], &["--stop", "empty"]),
        (&["generate", "x", "--seed", "-3"], &["--seed"]),
        (
            &["generate", "x", "--device", "abacus"],
            &["cpu", "reference"],
        ),
        (&["generate", "x", "--top-logprobs", "3"], &["--json"]),
        (&["generate", "x", "-f", "y"], &["cannot be used with"]),
        (
            &["tokenize", "x", "--decode", "1"],
            &["cannot be used with"],
        ),
        (&["next", "x", "--top", "0"], &["--top", "from 1"]),
        (&["completions", "dos"], &["bash", "zsh", "fish"]),
    ];
    for (args, parts) in cases {
        let run = onward(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
        for part in *parts {
            assert!(
                run.stderr.contains(part),
                "{args:?}: no {part:?} in {}",
                run.stderr
            );
        }
    }
}

#[test]
fn failures_exit_with_1_and_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.gguf");
    std::fs::write(&path, b"GGUF\x03\0\0\0").expect("a file");
    let broken = path.to_str().expect("a path in UTF-8");
    onward(&["generate", "x", "-m", broken]).failed_saying(&["broken.gguf"]);
    onward(&["inspect", broken]).failed_saying(&["broken.gguf"]);
    onward(&["generate", "x", "-m", "/no/such.gguf"]).failed_saying(&["/no/such.gguf"]);
    onward(&["generate", "-f", "/no/prompt.txt"]).failed_saying(&["/no/prompt.txt"]);
    onward(&["generate", "one two three", "-c", "2"]).failed_saying(&["2", "--ctx-size"]);
    onward(&["generate", "x", "--logit-bias", "999999=1"]).failed_saying(&["999999", "262144"]);

    let mut command = command(&["generate", "x"]);
    command.env("ONWARD_CACHE", folder.path());
    finish(command).failed_saying(&["make models", "-m", "models/gemma-3-270m-q4_k_m.gguf"]);
}

#[test]
fn completions_are_scripts_that_know_the_flags() {
    let script = onward(&["completions", "bash"]).ok().stdout;
    for part in ["_onward()", "--top-logprobs", "perplexity", "reference"] {
        assert!(script.contains(part), "no {part:?}");
    }
    let status = Command::new("bash").args(["-n", "-c", &script]).status();
    assert!(status.expect("bash runs").success());
    assert!(
        onward(&["completions", "zsh"])
            .ok()
            .stdout
            .starts_with("#compdef onward")
    );
    assert!(
        onward(&["completions", "fish"])
            .ok()
            .stdout
            .contains("complete -c onward")
    );
}

#[test]
fn the_log_goes_to_stderr_when_asked() {
    let quiet = onward(&["tokenize", "Hi"]).ok();
    assert_eq!(quiet.stderr, "");
    let mut command = command(&["tokenize", "Hi"]);
    command.env("ONWARD_LOG", "trace");
    assert_eq!(finish(command).ok().stdout, quiet.stdout);
}
