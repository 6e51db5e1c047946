//! `chat` through a pipe, a line a turn.

use super::{QWEN, model, onward, onward_reading};

/// `(prompt tokens, cached, new)` of each turn, from the figures on stderr.
fn figures(stderr: &str) -> Vec<(usize, usize, usize)> {
    let number_before = |line: &str, word: &str| {
        let (before, _) = line.split_once(word)?;
        let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    stderr
        .lines()
        .filter_map(|line| {
            let prompt = number_before(line, " prompt token")?;
            let cached = number_before(line, " cached)").unwrap_or(0);
            Some((prompt, cached, number_before(line, " new token")?))
        })
        .collect()
}

fn chat(input: &str, args: &[&str]) -> super::Run {
    let qwen = model(QWEN);
    let args = [&["chat", "-m", &qwen, "--temp", "0"], args].concat();
    onward_reading(&args, input).ok()
}

#[test]
fn a_second_turn_computes_only_what_is_new() {
    let run = chat("Name a colour.\nName another one.\n", &["-n", "20"]);
    let [first, second] = figures(&run.stderr)[..] else {
        panic!("not two turns: {}", run.stderr);
    };
    assert_eq!(first.1, 0);
    // The last token drawn was never fed to the model, so it is new as well.
    assert!(second.1 + 1 >= first.0 + first.2, "{first:?} {second:?}");
    let new = second.0 - second.1;
    assert!(new <= 16, "{new} tokens of the second turn were computed");
}

#[test]
fn an_undone_turn_leaves_no_trace() {
    let run = chat(
        "Name a colour.\n/undo\nName a colour.\n/reset\nName a colour.\n/undo\n/undo\n/what\n",
        &["-n", "12"],
    );
    let answers: Vec<_> = run.stdout.split_inclusive('\n').collect();
    let once = chat("Name a colour.\n", &["-n", "12"]).stdout;
    assert_eq!(run.stdout, once.repeat(3), "{answers:?}");
    for note in [
        "The last turn is forgotten.",
        "no turn to forget",
        "/what is not a command",
    ] {
        assert!(run.stderr.contains(note), "no {note:?} in {}", run.stderr);
    }
}

#[test]
fn a_conversation_is_saved_as_text_or_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let (json, text) = (folder.path().join("a.json"), folder.path().join("a.md"));
    let input = format!(
        "Name \\\na colour.\n/save {}\n/save {}\n/exit\nnever read\n",
        json.display(),
        text.display()
    );
    let run = chat(&input, &["-n", "6", "--system", "Be brief."]);
    let saved = std::fs::read_to_string(&json).expect("the saved file");
    let messages: serde_json::Value = serde_json::from_str(&saved).expect("JSON");
    assert_eq!(
        messages,
        serde_json::json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Name \na colour."},
            {"role": "assistant", "content": run.stdout.trim_end_matches('\n')},
        ])
    );
    let saved = std::fs::read_to_string(&text).expect("the saved file");
    assert!(
        saved.starts_with("## system\n\nBe brief.\n\n## user\n\n"),
        "{saved}"
    );
    assert_eq!(figures(&run.stderr).len(), 1, "/exit leaves");
}

#[test]
fn a_template_from_a_file_serves_a_model_without_one() {
    let refused = onward_reading(&["chat"], "Hi\n");
    refused.failed_saying(&["this model has no chat template", "--chat-template"]);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("template.jinja");
    let template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n\
                    {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    std::fs::write(&path, template).expect("a file");
    let path = path.to_str().expect("a path in UTF-8");
    let args = [
        "chat",
        "--chat-template",
        path,
        "--temp",
        "0",
        "-n",
        "3",
        "--verbose-prompt",
    ];
    let run = onward_reading(&args, "Hi\n").ok();
    assert_eq!(run.stderr.matches("\"<bos>\"").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("\"assistant\""), "{}", run.stderr);

    std::fs::write(path, "{% for m in messages %}").expect("a file");
    onward(&args).failed_saying(&["template.jinja", "chat template"]);
}

#[test]
fn a_conversation_beyond_the_context_is_refused_in_one_sentence() {
    let qwen = model(QWEN);
    let run = onward_reading(
        &["chat", "-m", &qwen, "-c", "16"],
        "Name a colour, any colour.\n",
    );
    run.failed_saying(&["16", "--ctx-size"]);
}
