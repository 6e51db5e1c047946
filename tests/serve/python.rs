//! The official Python client.

use std::path::Path;
use std::process::Command;

use onward_tests::{QWEN, model_path};

use super::server::Server;

#[test]
fn the_official_client_gets_what_it_asks_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/clients/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: run `make clients`",
        python.display()
    );
    let args = ["-c", "2048", "--model-name", "qwen", "--api-key", "secret"];
    let server = Server::start(&model_path(QWEN), &args);
    server.wait_ready();
    let output = Command::new(python)
        .arg(root.join("tests/serve/openai_client.py"))
        .arg(format!("http://{}/v1", server.address()))
        .output()
        .expect("Python runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{errors}{}", server.log());
    assert!(out.ends_with("all 9 passed\n"), "{out}");
}
