//! What is wrong or too much is refused by name, in bounded time, and hurts nobody else.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{connect, response};
use super::server::Server;

fn completion(server: &Server, more: Value) -> super::http::Response {
    let mut body = json!({"prompt": "the", "max_tokens": 1});
    for (key, value) in more.as_object().expect("fields") {
        body[key] = value.clone();
    }
    server.post("/v1/completions", &body)
}

fn chat(server: &Server, more: Value) -> super::http::Response {
    let mut body = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1});
    for (key, value) in more.as_object().expect("fields") {
        body[key] = value.clone();
    }
    server.post("/v1/chat/completions", &body)
}

#[test]
fn a_wrong_type_names_its_field() {
    let server = Server::tiny(&[]);
    for (field, value) in [
        ("temperature", json!("hot")),
        ("max_tokens", json!(-1)),
        ("max_completion_tokens", json!("1")),
        ("top_p", json!([])),
        ("top_k", json!(1.5)),
        ("min_p", json!({})),
        ("n", json!("2")),
        ("stop", json!(3)),
        ("seed", json!("x")),
        ("stream", json!("yes")),
        ("stream_options", json!(1)),
        ("logit_bias", json!([])),
        ("presence_penalty", json!("x")),
        ("frequency_penalty", json!(false)),
        ("repetition_penalty", json!("x")),
        ("ignore_eos", json!(1)),
        ("response_format", json!({"type": "xml"})),
        ("guided_regex", json!(1)),
        ("prompt", json!({"text": "a"})),
        ("echo", json!("true")),
        ("logprobs", json!(true)),
        ("model", json!(1)),
        ("suffix", json!(1)),
    ] {
        let error = completion(&server, json!({field: value})).refused(400, "invalid_type");
        let param = error["param"].as_str().unwrap_or_default();
        assert!(
            param == field || param.starts_with(&format!("{field}.")),
            "{error}"
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.contains(field)),
            "{error}"
        );
    }
    let messages =
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}]});
    let error = chat(&server, messages).refused(400, "invalid_type");
    assert_eq!(error["param"], "messages[1].role");
    let error = server
        .post("/v1/completions", &json!({}))
        .refused(400, "missing_field");
    assert_eq!(error["param"], "prompt");
    assert_eq!(
        completion(&server, json!({"temperature": null, "stop": null})).status,
        200
    );
}

#[test]
fn a_value_out_of_its_range_names_its_field() {
    let server = Server::tiny(&[]);
    for (field, value) in [
        ("temperature", json!(-0.1)),
        ("top_p", json!(1.5)),
        ("min_p", json!(-1)),
        ("top_k", json!(-2)),
        ("repetition_penalty", json!(0)),
        ("presence_penalty", json!(1e300)),
        ("n", json!(0)),
        ("stop", json!([""])),
        ("logit_bias", json!({"99999": 1})),
        ("prompt", json!([])),
        ("prompt", json!([[]])),
        ("prompt", json!([99999])),
        ("suffix", json!("b")),
        ("best_of", json!(3)),
    ] {
        let answer = completion(&server, json!({field: value}));
        assert_eq!(answer.status, 400, "{field}: {value}");
        let error = answer.json()["error"].clone();
        assert_eq!(error["param"], field, "{error}");
    }
}

#[test]
fn every_limit_is_named() {
    let server = Server::tiny(&[]);
    let refused = |more: Value, code: &str| drop(completion(&server, more).refused(400, code));
    refused(json!({"n": 129}), "too_many_choices");
    refused(json!({"prompt": vec!["a"; 65], "n": 2}), "too_many_choices");
    refused(json!({"prompt": vec!["a"; 129]}), "too_many_choices");
    refused(json!({"logprobs": 21}), "too_many_logprobs");
    refused(json!({"stop": vec!["a"; 17]}), "too_many_stops");
    refused(json!({"stop": "a".repeat(1025)}), "stop_too_long");
    let bias: serde_json::Map<String, Value> =
        (0..1025).map(|id| (id.to_string(), json!(1))).collect();
    refused(json!({"logit_bias": bias}), "logit_bias_too_large");
    refused(
        json!({"guided_regex": "a".repeat(65_537)}),
        "schema_too_large",
    );
    let schema = json!({"type": "string", "description": "a".repeat(65_537)});
    refused(json!({"guided_json": schema}), "schema_too_large");
    refused(
        json!({"prompt": "word ".repeat(300)}),
        "context_length_exceeded",
    );
    refused(
        json!({"prompt": "a".repeat(100_000)}),
        "context_length_exceeded",
    );
    refused(json!({"prompt": vec![5; 257]}), "context_length_exceeded");
    let refused = |more: Value, code: &str| drop(chat(&server, more).refused(400, code));
    refused(
        json!({"logprobs": true, "top_logprobs": 21}),
        "too_many_logprobs",
    );
    refused(json!({"top_logprobs": 2}), "invalid_value");
    let message = json!({"role": "user", "content": "a"});
    refused(
        json!({"messages": vec![message; 4097]}),
        "too_many_messages",
    );
    let tool = json!({"type": "function", "function": {"name": "f"}});
    refused(json!({"tools": vec![tool.clone(); 129]}), "too_many_tools");
    refused(json!({"tools": [tool]}), "tools_not_supported");
    refused(
        json!({"chat_template_kwargs": {"bos_token": "x"}}),
        "variable_not_allowed",
    );
    refused(json!({"thinking_budget": 3}), "invalid_value");
    assert_eq!(
        completion(&server, json!({})).status,
        200,
        "it is still well"
    );
}

#[test]
fn bodies_are_json_of_bounded_size_and_depth() {
    let server = Server::tiny(&["--max-body", "10000"]);
    let post = |text: &str| server.post_text("/v1/completions", text);
    post("{").refused(400, "invalid_json");
    post("[1]").refused(400, "invalid_json");
    post("{\"prompt\": \"a\", }").refused(400, "invalid_json");
    post("\u{0}").refused(400, "invalid_json");
    post(&"[".repeat(9000)).refused(400, "json_too_deep");
    let deep = format!("{{\"prompt\": {}1{}}}", "[".repeat(2000), "]".repeat(2000));
    post(&deep).refused(400, "json_too_deep");
    post(&format!("\"{}\"", "a".repeat(10_000))).refused(413, "body_too_large");
    // A length that is announced is not waited for.
    let head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n";
    let begin = Instant::now();
    response(connect(server.address(), head)).refused(413, "body_too_large");
    assert!(begin.elapsed() < Duration::from_secs(5));
    // One that is not announced is cut off.
    let head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut connection = connect(server.address(), head);
    let chunk = format!("{:x}\r\n{}\r\n", 9000, "a".repeat(9000));
    connection
        .write_all(chunk.as_bytes())
        .expect("the first chunk");
    drop(connection.write_all(chunk.as_bytes()));
    response(connection).refused(413, "body_too_large");
}

#[test]
fn a_client_that_dawdles_is_not_waited_for() {
    let server = Server::tiny(&["--read-timeout", "0.5"]);
    let begin = Instant::now();
    // A body that never ends.
    let head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    response(connect(server.address(), head)).refused(408, "body_timeout");
    // Headers that never end: the connection is closed, with or without a word.
    let mut slow = connect(
        server.address(),
        b"GET /health HTTP/1.1\r\nHost: t\r\nX-Slow: ",
    );
    let mut rest = Vec::new();
    drop(std::io::Read::read_to_end(&mut slow, &mut rest));
    let text = String::from_utf8_lossy(&rest);
    assert!(rest.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn hostile_grammars_end_soon() {
    let server = Server::tiny(&[]);
    let deep = (0..100).fold(
        json!({"type": "string"}),
        |schema, _| json!({"type": "object", "properties": {"a": schema}}),
    );
    let wide: serde_json::Map<String, Value> = (0..2000)
        .map(|n| (format!("key{n}"), json!({"enum": [1, 2]})))
        .collect();
    for more in [
        json!({"guided_regex": "(a{1000}){1000}"}),
        json!({"guided_regex": format!("{}a{}", "(".repeat(5000), ")*".repeat(5000))}),
        json!({"guided_regex": "(((a*)*)*)*b"}),
        json!({"guided_json": deep}),
        json!({"guided_json": {"type": "object", "properties": wide}}),
        json!({"guided_json": {"$ref": "file:///etc/passwd"}}),
        json!({"guided_json": {"$ref": "#"}}),
        json!({"guided_json": {"type": "string", "pattern": "(a|aa)+$"}}),
        json!({"grammar": "start: start start | \"a\""}),
        json!({"grammar": "start: %import"}),
    ] {
        let begin = Instant::now();
        let answer = completion(&server, more.clone());
        let status = answer.status;
        assert!(
            status == 200 || (400..500).contains(&status),
            "{status} for {more:?}"
        );
        assert!(begin.elapsed() < Duration::from_secs(20), "{more:?}");
    }
    assert_eq!(
        completion(&server, json!({})).status,
        200,
        "it is still well"
    );
}

#[test]
fn nothing_that_a_request_names_is_opened() {
    let server = Server::tiny(&[]);
    let url = json!({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}});
    let messages = json!({"messages": [{"role": "user", "content": [url]}]});
    let error = chat(&server, messages).refused(400, "invalid_value");
    assert_eq!(error["param"], "messages[0].content[0].type");
}
