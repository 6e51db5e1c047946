//! Streams: their shape, what they add up to, and what becomes of them when a client leaves.

use serde_json::{Value, json};

use super::http::{connect, data, response};
use super::server::Server;

fn pieces(events: &[String]) -> Vec<Value> {
    let (done, pieces) = events.split_last().expect("events");
    assert_eq!(done, "[DONE]");
    pieces
        .iter()
        .map(|text| serde_json::from_str(text).expect("JSON"))
        .collect()
}

#[test]
fn a_stream_adds_up_to_the_answer() {
    let server = Server::tiny(&[]);
    let mut body = json!({
        "prompt": ["the world", "a word"], "max_tokens": 12, "seed": 5, "n": 2, "logprobs": 2,
        "temperature": 1.2, "echo": true, "ignore_eos": true,
    });
    let whole = server.post("/v1/completions", &body).ok();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let pieces = pieces(&server.post("/v1/completions", &body).events());
    let (last, pieces) = pieces.split_last().expect("pieces");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"]["completion_tokens"],
        whole["usage"]["completion_tokens"]
    );
    assert_eq!(
        last["usage"]["prompt_tokens"],
        whole["usage"]["prompt_tokens"]
    );
    for index in 0..4 {
        let of_choice = || {
            let choices = pieces.iter().map(|piece| &piece["choices"][0]);
            choices.filter(move |choice| choice["index"] == index)
        };
        let text: String = of_choice()
            .filter_map(|choice| choice["text"].as_str())
            .collect();
        assert_eq!(whole["choices"][index]["text"], text);
        let tokens: Vec<&Value> = of_choice()
            .filter_map(|choice| choice["logprobs"]["token_logprobs"].as_array())
            .flatten()
            .collect();
        let logprobs = &whole["choices"][index]["logprobs"]["token_logprobs"];
        assert_eq!(
            logprobs
                .as_array()
                .expect("numbers")
                .iter()
                .collect::<Vec<_>>(),
            tokens
        );
        let reasons: Vec<&Value> = of_choice()
            .map(|choice| &choice["finish_reason"])
            .filter(|reason| !reason.is_null())
            .collect();
        assert_eq!(reasons, ["length"]);
    }
    for piece in pieces {
        assert_eq!(piece["id"], last["id"]);
        assert_eq!(piece["object"], "text_completion");
    }
}

#[test]
fn a_chat_stream_begins_with_the_role() {
    let server = Server::tiny(&[]);
    let mut body = json!({
        "messages": [{"role": "user", "content": "the world"}],
        "max_tokens": 9, "seed": 5, "logprobs": true, "top_logprobs": 2, "ignore_eos": true,
    });
    let whole = server.post("/v1/chat/completions", &body).ok();
    body["stream"] = true.into();
    let pieces = pieces(&server.post("/v1/chat/completions", &body).events());
    assert_eq!(pieces[0]["choices"][0]["delta"]["role"], "assistant");
    let content: String = pieces
        .iter()
        .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], content);
    assert_eq!(whole["choices"][0]["message"]["role"], "assistant");
    let tokens: Vec<Value> = pieces
        .iter()
        .filter_map(|piece| piece["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(tokens.len(), 9);
    assert_eq!(whole["choices"][0]["logprobs"]["content"], json!(tokens));
    assert!(
        tokens[0]["bytes"].is_array()
            && tokens[0]["top_logprobs"].as_array().map(Vec::len) == Some(2)
    );
    let last = &pieces[pieces.len() - 1];
    assert_eq!(last["object"], "chat.completion.chunk");
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last.get("usage"), None, "unless it is asked for");
}

/// Asks for more tokens than any test waits for.
fn endless(path: &str, stream: bool) -> Vec<u8> {
    let body =
        json!({"prompt": "the", "max_tokens": 100_000, "ignore_eos": true, "stream": stream});
    let body = body.to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn running(server: &Server) -> f64 {
    server.metric("onward_num_requests_running")
}

#[test]
fn a_client_that_leaves_stops_its_work() {
    let server = Server::tiny(&["-c", "200000"]);
    for stream in [true, false] {
        let connection = connect(server.address(), &endless("/v1/completions", stream));
        server.wait("a running request", || running(&server) == 1.0);
        let made = server.metric("onward_generation_tokens_total");
        drop(connection);
        server.wait("the end of its work", || running(&server) == 0.0);
        let end = server.metric("onward_generation_tokens_total");
        assert!(end - made < 100_000.0, "it was served to its end");
    }
    assert_eq!(
        server.metric("onward_requests_total{end=\"cancelled\"}"),
        2.0
    );
    assert_eq!(server.metric("onward_kv_cache_usage_perc"), 0.0);
}

#[test]
fn tokens_come_as_they_are_drawn() {
    let server = Server::tiny(&["-c", "200000"]);
    let mut answer = response(connect(server.address(), &endless("/v1/completions", true)));
    assert_eq!(answer.status, 200);
    for _ in 0..20 {
        let chunk = answer.chunk().expect("a chunk");
        let text = String::from_utf8(chunk).expect("text");
        if let Some(data) = data(text.trim_end()) {
            let piece: Value = serde_json::from_str(&data).expect("JSON");
            assert_eq!(piece["choices"][0]["finish_reason"], Value::Null);
        }
    }
    assert_eq!(running(&server), 1.0, "it is far from its end");
}
