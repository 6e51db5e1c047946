//! Every route, its errors, the key and the log.

use serde_json::{Value, json};

use super::http::{connect, response, send};
use super::server::{Server, tiny};

#[test]
fn health_says_when_the_model_is_there() {
    let (_folder, path) = tiny();
    // A context that takes a while to make room for.
    let server = Server::start(&path, &[]);
    let early = server.get("/health");
    match early.status {
        503 => drop(early.refused(503, "loading")),
        status => assert_eq!(status, 200),
    }
    server.wait_ready();
    assert_eq!(server.get("/health").ok(), json!({"status": "ok"}));
}

#[test]
fn a_model_that_does_not_load_ends_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.gguf");
    std::fs::write(&path, "GGUF").expect("a file");
    let mut server = Server::start(&path, &[]);
    assert_eq!(server.ended(), Some(1));
    server.wait("the reason", || server.log().contains("broken.gguf"));
}

#[test]
fn models_are_listed_by_each_name() {
    let server = Server::tiny(&["--model-name", "small", "--alias", "org/other"]);
    let list = server.get("/v1/models").ok();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(ids, ["small", "org/other"]);
    assert_eq!(list["data"][0]["max_model_len"], 256);
    assert_eq!(server.get("/v1/models/org/other").ok()["root"], "small");
    server
        .get("/v1/models/none")
        .refused(404, "model_not_found");
    let ask = |name: &str| {
        let body = json!({"model": name, "prompt": "the", "max_tokens": 1});
        server.post("/v1/completions", &body)
    };
    assert_eq!(ask("org/other").ok()["model"], "small");
    let error = ask("gpt-5").refused(404, "model_not_found");
    assert_eq!(error["param"], "model");
}

#[test]
fn text_becomes_tokens_and_text_again() {
    let server = Server::tiny(&[]);
    let content = server
        .post("/tokenize", &json!({"content": "the world"}))
        .ok();
    let prompt = json!({"prompt": "the world", "return_token_strs": true});
    let prompt = server.post("/tokenize", &prompt).ok();
    let ids = content["tokens"].as_array().expect("ids");
    // llama.cpp's field does not add a beginning-of-sequence token, vLLM's does.
    assert_eq!(prompt["tokens"][0], 1);
    assert_eq!(prompt["count"], ids.len() + 1);
    assert_eq!(prompt["max_model_len"], 256);
    assert_eq!(prompt["token_strs"][0], "<s>");
    let both = json!({"content": "the world", "add_special": true});
    assert_eq!(
        server.post("/tokenize", &both).ok()["tokens"],
        prompt["tokens"]
    );
    let text = server.post("/detokenize", &json!({"tokens": ids})).ok();
    assert_eq!(text, json!({"content": "the world", "prompt": "the world"}));
    let pieces = json!({"content": "é", "with_pieces": true});
    let pieces = server.post("/tokenize", &pieces).ok();
    assert_eq!(
        pieces["tokens"]
            .as_array()
            .expect("tokens")
            .last()
            .expect("one")["piece"],
        json!([0xa9])
    );
    server
        .post("/tokenize", &json!({}))
        .refused(400, "missing_field");
    let error = server
        .post("/detokenize", &json!({"tokens": [9999]}))
        .refused(400, "invalid_value");
    assert_eq!(error["param"], "tokens");
}

#[test]
fn embeddings_are_unit_vectors_in_both_formats() {
    let server = Server::tiny(&[]);
    let ask = |body: Value| server.post("/v1/embeddings", &body);
    let two = ask(json!({"input": ["the world", "a word"]})).ok();
    let vector = |value: &Value| -> Vec<f64> {
        let numbers = value["embedding"].as_array().expect("numbers");
        numbers
            .iter()
            .map(|x| x.as_f64().expect("a number"))
            .collect()
    };
    let first = vector(&two["data"][0]);
    assert_eq!(first.len(), 64);
    let square: f64 = first.iter().map(|x| x * x).sum();
    assert!((square - 1.0).abs() < 1e-5, "{square}");
    assert_ne!(first, vector(&two["data"][1]));
    assert_eq!(two["usage"]["prompt_tokens"], two["usage"]["total_tokens"]);
    // Alone as beside another; 64 floats are 344 characters of base64.
    assert_eq!(
        vector(&ask(json!({"input": "the world"})).ok()["data"][0]),
        first
    );
    let base64 = ask(json!({"input": "the world", "encoding_format": "base64"})).ok();
    let text = base64["data"][0]["embedding"].as_str().expect("base64");
    assert_eq!(text.len(), 344);
    let error = ask(json!({"input": "a", "dimensions": 8})).refused(400, "unsupported_parameter");
    assert_eq!(error["param"], "dimensions");
    ask(json!({"input": []})).refused(400, "invalid_value");
    ask(json!({"input": {}})).refused(400, "invalid_type");
}

#[test]
fn metrics_count_what_was_served() {
    let server = Server::tiny(&[]);
    assert_eq!(server.metric("onward_generation_tokens_total"), 0.0);
    let body = json!({"prompt": "the world", "max_tokens": 7, "ignore_eos": true});
    server.post("/v1/completions", &body).ok();
    assert_eq!(server.metric("onward_generation_tokens_total"), 7.0);
    assert_eq!(
        server.metric("onward_requests_total{end=\"finished\"}"),
        1.0
    );
    assert_eq!(
        server.metric("onward_time_to_first_token_seconds_count"),
        1.0
    );
    assert_eq!(
        server.metric("onward_inter_token_latency_seconds_count"),
        6.0
    );
    assert_eq!(server.metric("onward_num_requests_running"), 0.0);
    assert_eq!(server.metric("onward_kv_cache_usage_perc"), 0.0);
    let text = server.get("/metrics");
    assert!(
        text.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
}

#[test]
fn the_description_names_every_route() {
    let server = Server::tiny(&[]);
    let description = server.get("/openapi.json").ok();
    let paths = description["paths"].as_object().expect("paths");
    let mut paths: Vec<&str> = paths.keys().map(String::as_str).collect();
    paths.sort_unstable();
    let expected = [
        "/apply-template",
        "/detokenize",
        "/health",
        "/metrics",
        "/props",
        "/tokenize",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{name}",
    ];
    assert_eq!(paths, expected);
    server.get("/nowhere").refused(404, "not_found");
    server
        .get("/v1/completions")
        .refused(405, "method_not_allowed");
}

#[test]
fn the_key_is_asked_for_everywhere_but_at_health() {
    let server = Server::tiny(&["--api-key", "secret", "--cors-origin", "https://page.test"]);
    assert_eq!(server.get("/health").status, 200);
    for path in [
        "/v1/models",
        "/metrics",
        "/openapi.json",
        "/props",
        "/nowhere",
    ] {
        let refused = server.get(path);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        refused.refused(401, "invalid_api_key");
    }
    for path in [
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/apply-template",
        "/tokenize",
        "/detokenize",
    ] {
        server
            .post(path, &json!({}))
            .refused(401, "invalid_api_key");
    }
    let with = |key: &str| {
        let headers = [("Authorization", key), ("Origin", "https://page.test")];
        send(server.address(), "GET", "/v1/models", &headers, "")
    };
    with("Bearer secre").refused(401, "invalid_api_key");
    let allowed = with("Bearer secret");
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://page.test")
    );
    allowed.ok();
}

#[test]
fn pages_of_other_origins_are_not_let_in_unless_asked() {
    let server = Server::tiny(&[]);
    let headers = [("Origin", "https://page.test")];
    let answer = send(server.address(), "GET", "/v1/models", &headers, "");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // What a form of any page can send without being asked.
    let form = [("Content-Type", "text/plain")];
    let body = json!({"prompt": "the"}).to_string();
    let answer = send(server.address(), "POST", "/v1/completions", &form, &body);
    answer.refused(415, "unsupported_media_type");
}

#[test]
fn the_log_has_no_text_unless_asked() {
    let ask = |args: &[&str]| {
        let server = Server::tiny(args);
        let body = json!({"prompt": "the secret word", "max_tokens": 1});
        server.post("/v1/completions", &body).ok();
        server.wait("the line", || server.log().contains("/v1/completions"));
        server.log()
    };
    let log = ask(&[]);
    assert!(
        log.contains("status=200") && !log.contains("secret"),
        "{log}"
    );
    assert!(ask(&["--log-prompts"]).contains("the secret word"));
}

#[test]
fn bytes_that_are_no_http_hurt_nobody() {
    let server = Server::tiny(&[]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[0xff; 100],
    ] {
        drop(connect(server.address(), bytes));
    }
    let bad = response(connect(server.address(), b"GET\r\n\r\n"));
    assert_eq!(bad.status, 400);
    assert_eq!(server.get("/health").status, 200);
}
