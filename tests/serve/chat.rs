//! `/v1/chat/completions`: conversations, tools, thoughts.

use serde_json::{Value, json};

use super::server::{Server, tiny};

/// A template with tools, calls and thoughts, as families write them.
const TEMPLATE: &str = "{% for t in tools %}{{ t | tojson }}\n{% endfor %}\
    {% for m in messages %}[{{ m.role }}] {{ m.content }}\
    {% for c in m.tool_calls %}<tool_call>{{ c.function.arguments.x }}</tool_call>{% endfor %}\n{% endfor %}\
    [assistant] {% if enable_thinking %}<think>{% endif %}{# </think> #}";

fn with_template(args: &[&str]) -> (tempfile::TempDir, Server) {
    let (folder, model) = tiny();
    let path = folder.path().join("template.jinja");
    std::fs::write(&path, TEMPLATE).expect("a file");
    let path = path.to_str().expect("a path in UTF-8");
    let server = Server::start(
        &model,
        &[&["--chat-template", path, "-c", "2000"], args].concat(),
    );
    server.wait_ready();
    (folder, server)
}

fn ask(server: &Server, more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "the world"}],
        "max_tokens": 60, "seed": 1, "ignore_eos": true,
    });
    for (key, value) in more.as_object().expect("fields") {
        body[key] = value.clone();
    }
    server.post("/v1/chat/completions", &body).ok()
}

#[test]
fn the_template_sees_what_was_sent() {
    let (_folder, server) = with_template(&["--log-prompts"]);
    let messages = json!([
        {"role": "developer", "content": [{"type": "text", "text": "rules"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 77}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "result"},
        {"role": "user", "content": "so"},
    ]);
    let tool =
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let more = json!({
        "messages": messages, "tools": [tool], "max_tokens": 1,
        "chat_template_kwargs": {"enable_thinking": true},
    });
    ask(&server, more);
    server.wait("the prompt", || {
        server.log().contains("[assistant] <think>")
    });
    let log = server.log();
    for part in [
        "[system] rules",
        "<tool_call>77</tool_call>",
        "[tool] result",
        "[user] so",
    ] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    assert!(log.contains("\\\"name\\\": \\\"f\\\""), "{log}");
}

#[test]
fn a_forced_call_is_one_of_the_tools() {
    let (_folder, server) = with_template(&[]);
    let tool = |name: &str| {
        let parameters = json!({
            "type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"],
            "additionalProperties": false,
        });
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    let tools = json!([tool("left"), tool("right")]);
    let named = json!({"type": "function", "function": {"name": "right"}});
    for (choice, names) in [
        (json!("required"), vec!["left", "right"]),
        (named, vec!["right"]),
    ] {
        let more =
            json!({"tools": tools, "tool_choice": choice, "ignore_eos": false, "max_tokens": 200});
        let answer = ask(&server, more);
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
        assert_eq!(choice["message"]["content"], Value::Null);
        let call = &choice["message"]["tool_calls"][0];
        assert!(names.contains(&call["function"]["name"].as_str().expect("a name")));
        let arguments = call["function"]["arguments"].as_str().expect("text");
        let arguments: Value = serde_json::from_str(arguments).expect("JSON");
        assert!([1, 2].contains(&arguments["x"].as_i64().expect("a number")));
        assert!(
            call["id"]
                .as_str()
                .is_some_and(|id| id.starts_with("call-"))
        );
    }
    let none = ask(&server, json!({"tools": tools, "tool_choice": "none"}));
    assert_eq!(none["choices"][0]["message"].get("tool_calls"), None);
}

#[test]
fn a_thought_ends_within_its_budget() {
    let (_folder, server) = with_template(&[]);
    let think = |budget: usize| {
        let kwargs = json!({"enable_thinking": true});
        ask(
            &server,
            json!({"chat_template_kwargs": kwargs, "thinking_budget": budget}),
        )
    };
    let answer = think(5);
    let message = &answer["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().expect("a thought");
    assert!(
        !thought.is_empty() && !thought.contains("</think>"),
        "{answer}"
    );
    assert!(
        message["content"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
    let longer = think(20);
    let longer = longer["choices"][0]["message"]["reasoning_content"].as_str();
    // The last character of the shorter one may have been cut.
    let certain = thought.trim_end_matches('\u{fffd}');
    assert!(
        longer.is_some_and(|longer| longer.len() > thought.len() && longer.starts_with(certain))
    );
    let none = think(0);
    assert_eq!(none["choices"][0]["message"].get("reasoning_content"), None);
}

#[test]
fn a_constraint_holds_for_what_follows_a_thought() {
    let (_folder, server) = with_template(&[]);
    let answer = ask(
        &server,
        json!({
            "chat_template_kwargs": {"enable_thinking": true}, "thinking_budget": 4,
            "guided_regex": "[0-9]{4}", "ignore_eos": false,
        }),
    );
    let message = &answer["choices"][0]["message"];
    let content = message["content"].as_str().expect("an answer");
    assert!(
        content.len() == 4 && content.bytes().all(|byte| byte.is_ascii_digit()),
        "{answer}"
    );
    assert!(message["reasoning_content"].is_string());
}

#[test]
fn a_model_without_a_template_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bare.gguf");
    let mut file = onward_tests::tiny_model::llama();
    file.remove("tokenizer.chat_template");
    std::fs::write(&path, file.bytes()).expect("a file");
    let server = Server::start(&path, &[]);
    server.wait_ready();
    let body = json!({"messages": [{"role": "user", "content": "a"}]});
    let error = server
        .post("/v1/chat/completions", &body)
        .refused(400, "no_chat_template");
    assert_eq!(error["param"], "messages");
}

#[test]
fn the_middle_is_filled_in_between_two_texts() {
    let path = onward_tests::model_path(onward_tests::QWEN);
    let server = Server::start(&path, &["-c", "512", "--parallel", "1"]);
    server.wait_ready();
    let body = json!({
        "prompt": "def add(a, b):\n    return ", "suffix": "\n\nprint(add(1, 2))\n",
        "max_tokens": 8, "temperature": 0,
    });
    let answer = server.post("/v1/completions", &body).ok();
    let text = answer["choices"][0]["text"].as_str().expect("a text");
    assert!(text.trim_start().starts_with("a + b"), "{answer}");
}
