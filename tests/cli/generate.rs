//! `generate`: the text, its JSON, and what each flag does to it.

use serde_json::Value;

use super::{QWEN, keys, model, onward, onward_reading};

const PROMPT: &str = "Water boils at a temperature of";

/// The ids that a run with `--json` drew.
fn ids(args: &[&str]) -> Vec<u64> {
    let lines = onward(args).ok().json_lines();
    let (_done, tokens) = lines.split_last().expect("a done line");
    tokens
        .iter()
        .map(|line| line["token"].as_u64().expect("an id"))
        .collect()
}

fn texts(tokens: &[Value]) -> String {
    let text = |line: &Value| line["text"].as_str().expect("a text").to_owned();
    tokens.iter().map(text).collect()
}

#[test]
fn json_has_a_line_a_token_and_then_the_figures() {
    let run = onward(&[
        "generate",
        PROMPT,
        "-n",
        "5",
        "--temp",
        "0",
        "--json",
        "--top-logprobs",
        "3",
    ])
    .ok();
    let lines = run.json_lines();
    let (done, tokens) = lines.split_last().expect("a done line");
    // The greedy continuation by an independent implementation, every margin above 1.
    let drawn: Vec<_> = tokens.iter().map(|line| &line["token"]).collect();
    assert_eq!(drawn, [236_743, 236_770, 236_771, 236_771, 10_674]);
    assert_eq!(texts(tokens), " 100 degrees");
    for line in tokens {
        assert_eq!(keys(line), ["logprob", "text", "token", "top"]);
        let top = line["top"].as_array().expect("alternatives");
        assert_eq!(top.len(), 3);
        assert_eq!(keys(&top[0]), ["logprob", "text", "token"]);
        assert_eq!(top[0]["token"], line["token"]);
        assert_eq!(top[0]["logprob"], line["logprob"]);
        let logprobs: Vec<_> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b) && logprobs[0] < 0.0);
    }
    assert_eq!(keys(done), ["done"]);
    let done = &done["done"];
    assert_eq!(
        keys(done),
        [
            "decode_tps",
            "new_tokens",
            "prefill_tps",
            "prompt_tokens",
            "reason",
            "ttft_ms"
        ]
    );
    assert_eq!(done["reason"], "length");
    assert_eq!(done["prompt_tokens"], 7);
    assert_eq!(done["new_tokens"], 5);
    for figure in ["decode_tps", "prefill_tps", "ttft_ms"] {
        assert!(done[figure].as_f64().unwrap() > 0.0, "{figure}");
    }
}

#[test]
fn text_goes_to_stdout_and_figures_to_stderr() {
    let run = onward(&["generate", PROMPT, "-n", "5", "--temperature", "0"]).ok();
    assert_eq!(run.stdout, " 100 degrees\n");
    let last = run.stderr.lines().last().expect("figures");
    for part in [
        "7 prompt tokens at ",
        "5 new tokens at ",
        " tok/s",
        "first token after ",
    ] {
        assert!(last.contains(part), "no {part:?} in {last}");
    }
    assert!(!last.contains("seed"), "nothing was drawn: {last}");
}

#[test]
fn one_token_is_one_token() {
    let run = onward(&["generate", PROMPT, "-n", "1", "--temp", "0", "--json"]).ok();
    let lines = run.json_lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        keys(&lines[0]),
        ["logprob", "text", "token"],
        "no top unless asked"
    );
    assert_eq!(lines[1]["done"]["new_tokens"], 1);
    assert!(run.stderr.contains("1 new token,"), "{}", run.stderr);
}

#[test]
fn a_seed_gives_the_same_tokens_on_any_threads_and_chunks() {
    let prompt = "The lighthouse keeper climbed the stairs each evening, one hundred and twelve \
                  of them, and each evening she counted them anew, for";
    let with = |seed: &str, threads: &str, chunk: &str| {
        ids(&[
            "generate", prompt, "-n", "12", "--json", "--temp", "1.3", "--top-k", "0", "--top-p",
            "1", "--min-p", "0", "--seed", seed, "-t", threads, "--chunk", chunk,
        ])
    };
    let expected = with("7", "1", "512");
    assert_eq!(expected.len(), 12);
    assert_eq!(with("7", "2", "512"), expected, "two threads");
    assert_eq!(with("7", "2", "1"), expected, "token by token");
    assert_eq!(
        with("7", "1", "5"),
        expected,
        "chunks that do not divide the prompt"
    );
    assert_ne!(with("8", "1", "512"), expected, "another seed");
}

#[test]
fn the_seed_reported_repeats_the_text() {
    let first = onward(&["generate", PROMPT, "-n", "12", "--temp", "1.5"]).ok();
    let (_, seed) = first
        .stderr
        .trim_end()
        .rsplit_once("seed ")
        .expect("a seed");
    let again = [
        "generate", PROMPT, "-n", "12", "--temp", "1.5", "--seed", seed,
    ];
    assert_eq!(onward(&again).ok().stdout, first.stdout);
}

#[test]
fn a_stop_text_ends_the_text_and_does_not_leak() {
    // " 100 degrees": the stop text begins and ends within tokens.
    let args = [
        "generate", PROMPT, "-n", "8", "--temp", "0", "--stop", "nothing", "--stop", "0 deg",
    ];
    assert_eq!(onward(&args).ok().stdout, " 10\n");
    let run = onward(&[&args[..], &["--json"]].concat()).ok();
    let lines = run.json_lines();
    let (done, tokens) = lines.split_last().expect("a done line");
    assert_eq!(texts(tokens), " 10");
    assert_eq!(done["done"]["reason"], "stop");
    assert_eq!(done["done"].get("text"), None);
}

#[test]
fn text_held_back_for_a_stop_text_comes_in_the_end() {
    // The last token may begin the stop text; that it does not is known only at the end.
    let args = [
        "generate",
        PROMPT,
        "-n",
        "5",
        "--temp",
        "0",
        "--stop",
        "degrees Kelvin",
        "--json",
    ];
    let lines = onward(&args).ok().json_lines();
    let (done, tokens) = lines.split_last().expect("a done line");
    assert_eq!(texts(tokens), " 100 ");
    assert_eq!(done["done"]["text"], "degrees");
    assert_eq!(onward(&args[..8]).ok().stdout.trim_end(), " 100 degrees");
}

#[test]
fn a_bias_forbids_a_token() {
    let args = ["generate", PROMPT, "-n", "1", "--temp", "0", "--json"];
    assert_eq!(ids(&args), [236_743]);
    let forbidden = [&args[..], &["--logit-bias", "236743=-inf"]].concat();
    assert_ne!(ids(&forbidden), [236_743]);
    let wanted = [
        &args[..],
        &["--logit-bias", "506=100", "--top-logprobs", "1"],
    ]
    .concat();
    let line = &onward(&wanted).ok().json_lines()[0];
    assert_eq!(line["token"], 506);
    assert_eq!(
        line["top"][0]["token"], 236_743,
        "the report is of the model's own mind"
    );
}

#[test]
fn penalties_break_a_repetition() {
    let prompt = "no no no no no no no no no no no no no";
    let plain = ["generate", prompt, "-n", "4", "--temp", "0"];
    assert_eq!(onward(&plain).ok().stdout, " no no no no\n");
    for flag in [
        "--repeat-penalty",
        "--frequency-penalty",
        "--presence-penalty",
    ] {
        let text = onward(&[&plain[..], &[flag, "20"]].concat()).ok().stdout;
        assert!(!text.contains(" no no"), "{flag}: {text}");
    }
}

#[test]
fn a_prompt_comes_from_an_argument_a_file_or_a_pipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prompt.txt");
    std::fs::write(&path, format!("{PROMPT}\n")).expect("a file");
    let rest = ["-n", "3", "--temp", "0"];
    let expected = " 10\n";
    let path = path.to_str().expect("a path in UTF-8");
    let file = [&["generate", "-f", path], &rest[..]].concat();
    assert_eq!(onward(&file).ok().stdout, expected);
    let piped = [&["generate"], &rest[..]].concat();
    assert_eq!(onward_reading(&piped, PROMPT).ok().stdout, expected);
    let dash = [&["generate", "-"], &rest[..]].concat();
    let run = onward_reading(&dash, &format!("{PROMPT}\r\n")).ok();
    assert_eq!(run.stdout, expected);
    assert!(run.stderr.contains("7 prompt tokens"), "{}", run.stderr);
}

#[test]
fn the_verbose_prompt_shows_what_the_model_sees() {
    let args = [
        "generate",
        "Hi<eos>",
        "-n",
        "1",
        "--temp",
        "0",
        "--verbose-prompt",
    ];
    let run = onward(&args).ok();
    let listed: Vec<_> = run.stderr.lines().map(str::trim).collect();
    assert_eq!(listed[0], "The model sees 3 prompt tokens:");
    assert_eq!(
        listed[1..4],
        ["2  \"<bos>\"", "10979  \"Hi\"", "1  \"<eos>\""]
    );
}

#[test]
fn a_chat_template_wraps_the_prompt() {
    let qwen = model(QWEN);
    let args = [
        "generate",
        "-m",
        &qwen,
        "--chat",
        "Say yes.",
        "--system",
        "Be brief.",
        "-n",
        "8",
        "--temp",
        "0",
        "--verbose-prompt",
    ];
    let run = onward(&args).ok();
    assert_eq!(
        run.stderr.matches("\"<|im_start|>\"").count(),
        3,
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("\" brief\""), "{}", run.stderr);
    assert!(run.stdout.to_lowercase().contains("yes"), "{}", run.stdout);
    assert!(!run.stdout.contains("<|im_end|>"), "{}", run.stdout);

    let gemma = onward(&["generate", "--chat", "Say yes."]);
    gemma.failed_saying(&["this model has no chat template", "--chat-template"]);
}

#[test]
fn end_of_text_ends_the_text_unless_ignored() {
    let qwen = model(QWEN);
    let args = [
        "generate", "-m", &qwen, "--chat", "Say yes.", "-n", "40", "--temp", "0", "--json",
    ];
    let done = |args: &[&str]| onward(args).ok().json_lines().pop().expect("a done line");
    assert_eq!(done(&args)["done"]["reason"], "stop");
    let ignoring = [&args[..], &["--ignore-eos"]].concat();
    let done = done(&ignoring);
    assert_eq!(done["done"]["reason"], "length");
    assert_eq!(done["done"]["new_tokens"], 40);
}
