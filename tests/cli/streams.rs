//! Colours and progress belong to terminals alone.

use std::process::Command;

use super::{Run, binary, finish, onward};

/// Runs the command on a terminal of its own, through util-linux's `script`; stdout is what the
/// terminal showed.
fn on_terminal(args: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new("script");
    let line = format!("'{}' {args}", binary().display());
    command
        .args(["-qec", &line, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm-256color")
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null());
    finish(command)
}

/// Whether `text` sets a colour or a weight: `ESC [ … m`.
fn is_painted(text: &str) -> bool {
    text.split("\x1b[").skip(1).any(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
        end.is_some_and(|end| rest[end..].starts_with('m'))
    })
}

const COMMANDS: [&str; 5] = [
    "next Hi --top 3",
    "tokenize Hi",
    "doctor",
    "generate Hi -n 2",
    "generate --help",
];

#[test]
fn a_terminal_shows_colours_unless_no_color_is_set() {
    for args in COMMANDS {
        let run = on_terminal(args, &[]).ok();
        assert!(is_painted(&run.stdout), "{args}: {}", run.stdout);
        let run = on_terminal(args, &[("NO_COLOR", "1")]).ok();
        assert!(!is_painted(&run.stdout), "{args}: {:?}", run.stdout);
    }
}

#[test]
fn pipes_get_no_escapes_at_all() {
    for args in COMMANDS {
        let args: Vec<_> = args.split(' ').collect();
        let run = onward(&args).ok();
        assert!(
            !run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'),
            "{args:?}"
        );
    }
}

#[test]
fn errors_are_painted_on_terminals_alone() {
    let args = "inspect /nowhere/model.gguf";
    let run = on_terminal(args, &[]);
    assert_eq!(run.code, Some(1));
    assert!(
        run.stdout.starts_with("\x1b[1;31merror:\x1b[0m "),
        "{:?}",
        run.stdout
    );
    let plain = on_terminal(args, &[("NO_COLOR", "yes")]);
    assert!(plain.stdout.starts_with("error: "), "{:?}", plain.stdout);
}
