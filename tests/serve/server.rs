//! A server under test: the real command on a port of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onward_tests::command::onward;
use onward_tests::tiny_model;
use serde_json::Value;

use super::http::{Response, send};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; it is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    _folder: Option<tempfile::TempDir>,
}

/// The tiny model in a folder of its own.
pub(crate) fn tiny() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, tiny_model::llama().bytes()).expect("the model's file");
    (folder, path)
}

impl Server {
    /// Serves the tiny model, once it is loaded.
    pub(crate) fn tiny(args: &[&str]) -> Self {
        let (folder, path) = tiny();
        let mut server = Self::start(&path, args);
        server._folder = Some(folder);
        server.wait_ready();
        server
    }

    /// Serves a model, which is being loaded.
    pub(crate) fn start(model: &Path, args: &[&str]) -> Self {
        let mut command = onward();
        command.args(["serve", "--port", "0", "-t", "1", "-m"]);
        command.arg(model).args(args).env_remove("ONWARD_API_KEY");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut log = String::new();
        let address = loop {
            let line = lines.next().and_then(Result::ok);
            let line = line.unwrap_or_else(|| panic!("it does not listen: {log}"));
            if let Some(address) = line.strip_prefix("listening on http://") {
                break address.parse().expect("an address");
            }
            log += &(line + "\n");
        };
        let log = Arc::new(Mutex::new(log));
        let of_reader = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *of_reader.lock().expect("no reader panics") += &(line + "\n");
            }
        });
        Self {
            child,
            address,
            log,
            _folder: None,
        }
    }

    /// Waits until the model is loaded.
    pub(crate) fn wait_ready(&self) {
        self.wait("the model", || self.get("/health").status == 200);
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "{what} never came: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it wrote to stderr after it listened.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        send(self.address, "GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.post_text(path, &body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> Response {
        let headers = [("Content-Type", "application/json")];
        send(self.address, "POST", path, &headers, body)
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.parse().expect("a number")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: sends a signal to a child of this process that has not been waited for.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    /// Waits for the end; the exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("it is a child") {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < end, "it does not end: {}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
