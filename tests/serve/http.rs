//! An HTTP client as small as it gets: it sends whatever bytes a test wants sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer whose body may still be coming.
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
}

/// Opens a connection and sends these bytes.
pub(crate) fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // A server may refuse before it has read everything.
    drop(stream.write_all(bytes));
    stream
}

/// Reads the head of the answer.
pub(crate) fn response(stream: TcpStream) -> Response {
    let mut reader = BufReader::new(stream);
    let line = read_line(&mut reader).expect("a status line");
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let mut headers = Vec::new();
    while let Some(line) = read_line(&mut reader).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a header");
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Response {
        status: status.unwrap_or_else(|| panic!("no status in {line:?}")),
        headers,
        reader,
    }
}

/// Sends a request.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    text += body;
    response(connect(address, text.as_bytes()))
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The next chunk of the body; none at its end, or where the connection broke.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = read_line(&mut self.reader)?;
        let size = usize::from_str_radix(&size, 16).expect("a chunk size");
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes).ok()?;
        bytes.truncate(size);
        (size > 0).then_some(bytes)
    }

    /// The whole body as text.
    pub(crate) fn text(mut self) -> String {
        let mut bytes = Vec::new();
        match self.header("content-length").map(str::parse::<usize>) {
            Some(length) => {
                bytes.resize(length.expect("a length"), 0);
                self.reader.read_exact(&mut bytes).expect("the body");
            }
            None => {
                while let Some(chunk) = self.chunk() {
                    bytes.extend(chunk);
                }
            }
        }
        String::from_utf8(bytes).expect("text")
    }

    /// The whole body as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The body, which must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        let status = self.status;
        let value = self.json();
        assert_eq!(status, 200, "{value}");
        value
    }

    /// Asserts that this is an error with this status and code, and returns its `error`.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let got = self.status;
        let value = self.json();
        assert_eq!(got, status, "{value}");
        let error = value["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "no {key} in {error}");
        }
        error
    }

    /// What a stream of server-sent events says: the data of each event, without comments.
    pub(crate) fn events(self) -> Vec<String> {
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        let text = self.text();
        let events = text.split("\n\n").filter(|event| !event.is_empty());
        events.filter_map(data).collect()
    }
}

/// The data of one event; none for a comment.
pub(crate) fn data(event: &str) -> Option<String> {
    let lines = event.lines().filter_map(|line| line.strip_prefix("data: "));
    let lines: Vec<&str> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
