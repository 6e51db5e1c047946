//! `/v1/completions`: the text, its tokens, its fields.

use std::time::Duration;

use onward_tests::command::{onward, run};
use serde_json::{Value, json};

use super::server::{Server, tiny};

const PROMPT: &str = "the world in the";

fn ask(server: &Server, mut body: Value) -> Value {
    let fields = body.as_object_mut().expect("fields");
    fields.entry("prompt").or_insert_with(|| PROMPT.into());
    server.post("/v1/completions", &body).ok()
}

fn text(answer: &Value, index: usize) -> &str {
    assert_eq!(answer["choices"][index]["index"], index);
    answer["choices"][index]["text"].as_str().expect("a text")
}

#[test]
fn a_seed_gives_the_text_that_the_command_line_gives() {
    let server = Server::tiny(&[]);
    let (_folder, path) = tiny();
    let mut command = onward();
    command.args([
        "generate", PROMPT, "-n", "24", "--seed", "7", "--temp", "1.3", "-m",
    ]);
    let ended = run(command.arg(path), "", Duration::from_secs(60));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let body = || json!({"max_tokens": 24, "seed": 7, "temperature": 1.3});
    let answer = ask(&server, body());
    assert_eq!(format!("{}\n", text(&answer, 0)), ended.stdout);
    assert_eq!(text(&ask(&server, body()), 0), text(&answer, 0));
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["completion_tokens"], 24);
    let mut other = body();
    other["seed"] = 8.into();
    assert_ne!(text(&ask(&server, other), 0), text(&answer, 0));
}

#[test]
fn many_prompts_and_completions_come_in_order() {
    let server = Server::tiny(&[]);
    let body = |prompt: Value, n: usize| json!({"prompt": prompt, "n": n, "seed": 3, "temperature": 1.5, "max_tokens": 9, "ignore_eos": true});
    let all = ask(&server, body(json!([PROMPT, "a word"]), 3));
    assert_eq!(all["choices"].as_array().map(Vec::len), Some(6));
    assert_eq!(all["usage"]["completion_tokens"], 54);
    let first = ask(&server, body(json!(PROMPT), 1));
    assert_eq!(text(&all, 0), text(&first, 0));
    assert_ne!(text(&all, 1), text(&first, 0), "each has a seed of its own");
    let second = ask(&server, body(json!("a word"), 3));
    for index in 0..3 {
        assert_eq!(text(&all, 3 + index), text(&second, index));
    }
    // As ids: alone, in an array, beside a text.
    let ids = server.post("/tokenize", &json!({"prompt": PROMPT})).ok()["tokens"].clone();
    for prompt in [ids.clone(), json!([ids])] {
        assert_eq!(text(&ask(&server, body(prompt, 1)), 0), text(&first, 0));
    }
    let mixed = ask(&server, body(json!([ids, "a word"]), 1));
    assert_eq!(text(&mixed, 0), text(&first, 0));
    assert_eq!(text(&mixed, 1), text(&second, 0));
}

#[test]
fn each_token_is_reported_with_its_alternatives() {
    let server = Server::tiny(&[]);
    let body = json!({"max_tokens": 6, "temperature": 0, "logprobs": 3, "ignore_eos": true});
    let answer = ask(&server, body);
    let logprobs = &answer["choices"][0]["logprobs"];
    for key in [
        "tokens",
        "bytes",
        "token_logprobs",
        "top_logprobs",
        "text_offset",
    ] {
        assert_eq!(logprobs[key].as_array().map(Vec::len), Some(6), "{key}");
    }
    let mut offset = 0;
    for at in 0..6 {
        assert_eq!(logprobs["text_offset"][at], offset);
        let token = logprobs["tokens"][at].as_str().expect("a text");
        offset += token.chars().count();
        let logprob = logprobs["token_logprobs"][at].as_f64().expect("a number");
        let top = logprobs["top_logprobs"][at]
            .as_object()
            .expect("alternatives");
        let best = top
            .values()
            .filter_map(Value::as_f64)
            .fold(f64::MIN, f64::max);
        assert_eq!(best, logprob, "the likeliest is drawn at temperature 0");
        assert!(logprob < 0.0 && top.len() <= 3);
    }
    let bare = ask(&server, json!({"max_tokens": 2, "logprobs": 0}));
    assert_eq!(
        bare["choices"][0]["logprobs"]["top_logprobs"],
        json!([null, null])
    );
    let none = ask(&server, json!({"max_tokens": 2}));
    assert_eq!(none["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn an_echo_has_the_prompt_and_its_tokens() {
    let server = Server::tiny(&[]);
    let plain = ask(&server, json!({"max_tokens": 4, "temperature": 0}));
    let echo = ask(
        &server,
        json!({"max_tokens": 4, "temperature": 0, "echo": true, "logprobs": 1}),
    );
    assert_eq!(text(&echo, 0), format!("{PROMPT}{}", text(&plain, 0)));
    let n_prompt = echo["usage"]["prompt_tokens"].as_u64().expect("a number") as usize;
    let logprobs = &echo["choices"][0]["logprobs"];
    let values = logprobs["token_logprobs"].as_array().expect("numbers");
    let n_new = echo["usage"]["completion_tokens"]
        .as_u64()
        .expect("a number") as usize;
    assert_eq!(values.len(), n_prompt + n_new);
    assert_eq!(values[0], Value::Null);
    assert!(
        values[1..]
            .iter()
            .all(|value| value.as_f64().is_some_and(|x| x < 0.0))
    );
    assert_eq!(logprobs["tokens"][0], "<s>");
    // What the prompt's own tokens are worth, and nothing else.
    let only = ask(
        &server,
        json!({"max_tokens": 0, "echo": true, "logprobs": 1}),
    );
    assert_eq!(text(&only, 0), PROMPT);
    let of_prompt = &only["choices"][0]["logprobs"]["token_logprobs"];
    assert_eq!(
        of_prompt.as_array().map(Vec::as_slice),
        Some(&values[..n_prompt])
    );
}

#[test]
fn fields_do_what_they_say() {
    let server = Server::tiny(&[]);
    let greedy = |more: Value| {
        let mut body = json!({"max_tokens": 12, "temperature": 0});
        for (key, value) in more.as_object().expect("fields") {
            body[key] = value.clone();
        }
        ask(&server, body)
    };
    let plain = greedy(json!({"ignore_eos": true}));
    let whole = text(&plain, 0).to_owned();
    assert_eq!(plain["choices"][0]["finish_reason"], "length");
    let stop: String = whole.chars().skip(4).take(3).collect();
    let stopped = greedy(json!({"ignore_eos": true, "stop": ["no such text", stop]}));
    let cut = whole.find(&stop).expect("it is part of the text");
    assert_eq!(text(&stopped, 0), &whole[..cut]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let newer = greedy(json!({"max_completion_tokens": 3, "ignore_eos": true}));
    assert_eq!(newer["usage"]["completion_tokens"], 3);
    let biased = greedy(json!({"logit_bias": {"290": 100}, "logprobs": 0, "max_tokens": 2}));
    let tokens = &biased["choices"][0]["logprobs"]["tokens"];
    assert_eq!(tokens[0], tokens[1]);
    let penalised = greedy(
        json!({"logit_bias": {"290": 100}, "logprobs": 0, "max_tokens": 2, "presence_penalty": 200}),
    );
    let tokens = &penalised["choices"][0]["logprobs"]["tokens"];
    assert_ne!(tokens[0], tokens[1]);
    let unknown = greedy(json!({"ignore_eos": true, "no_such_field": [1]}));
    assert_eq!(text(&unknown, 0), whole);
}

#[test]
fn a_constraint_shapes_the_text() {
    let server = Server::tiny(&[]);
    let constrained = |more: Value| {
        let mut body = json!({"max_tokens": 40, "seed": 1});
        for (key, value) in more.as_object().expect("fields") {
            body[key] = value.clone();
        }
        let answer = ask(&server, body);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        text(&answer, 0).to_owned()
    };
    let digits = constrained(json!({"guided_regex": "[0-9]{3}"}));
    assert!(
        digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        "{digits}"
    );
    let choice = constrained(json!({"guided_choice": ["yes", "no"]}));
    assert!(["yes", "no"].contains(&choice.as_str()), "{choice}");
    let lark = constrained(json!({"grammar": "start: \"ab\" | \"cd\""}));
    assert!(["ab", "cd"].contains(&lark.as_str()), "{lark}");
    let schema = json!({
        "type": "object",
        "properties": {"x": {"enum": [1, 2]}, "y": {"type": "boolean"}},
        "required": ["x", "y"],
        "additionalProperties": false,
        // Noise would go on with white space for long.
        "x-guidance": {"whitespace_flexible": false},
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "xy", "schema": schema}});
    let value = constrained(json!({"response_format": format}));
    let value: Value = serde_json::from_str(&value).expect("JSON");
    assert!(
        value["y"].is_boolean() && [1, 2].contains(&value["x"].as_i64().unwrap_or(0)),
        "{value}"
    );
    let bad = json!({"prompt": PROMPT, "guided_regex": "("});
    server
        .post("/v1/completions", &bad)
        .refused(400, "invalid_value");
}
