//! How a server ends, and what it does with more than it can serve.

use std::time::{Duration, Instant};

use serde_json::json;

use super::http::{connect, response};
use super::server::Server;

fn request(max_tokens: usize, stream: bool) -> Vec<u8> {
    let body = json!({"prompt": "the", "max_tokens": max_tokens, "ignore_eos": true, "stream": stream, "temperature": 0});
    let body = body.to_string();
    let length = body.len();
    format!("POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn running(server: &Server) -> f64 {
    server.metric("onward_num_requests_running")
}

#[test]
fn a_signal_lets_requests_end_and_takes_no_more() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::tiny(&["-c", "20000"]);
        let connection = connect(server.address(), &request(4000, false));
        server.wait("a running request", || running(&server) == 1.0);
        server.signal(signal);
        let answer = response(connection).ok();
        assert_eq!(answer["usage"]["completion_tokens"], 4000);
        assert_eq!(server.ended(), Some(0), "{}", server.log());
    }
}

#[test]
fn an_idle_server_ends_at_once() {
    let mut server = Server::tiny(&[]);
    let begin = Instant::now();
    server.signal(libc::SIGTERM);
    assert_eq!(server.ended(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_outlasts_the_shutdown_timeout_is_broken_off() {
    let mut server = Server::tiny(&["-c", "200000", "--shutdown-timeout", "0.3"]);
    let whole = connect(server.address(), &request(150_000, false));
    let stream = connect(server.address(), &request(150_000, true));
    server.wait("running requests", || running(&server) == 2.0);
    server.signal(libc::SIGTERM);
    response(whole).refused(503, "shutting_down");
    let events = response(stream).events();
    let (done, events) = events.split_last().expect("events");
    assert_eq!(done, "[DONE]");
    assert!(
        events
            .last()
            .is_some_and(|event| event.contains("shutting_down"))
    );
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_second_signal_ends_it_whatever_is_under_way() {
    let mut server = Server::tiny(&["-c", "200000"]);
    let _connection = connect(server.address(), &request(150_000, true));
    server.wait("a running request", || running(&server) == 1.0);
    server.signal(libc::SIGTERM);
    server.wait("the notice", || server.log().contains("ending: "));
    server.signal(libc::SIGTERM);
    assert_eq!(server.ended(), Some(130));
}

#[test]
fn a_full_queue_answers_429() {
    let server = Server::tiny(&["-c", "200000", "--parallel", "1", "--max-queue", "1"]);
    let _first = connect(server.address(), &request(150_000, true));
    server.wait("a running request", || running(&server) == 1.0);
    let _second = connect(server.address(), &request(150_000, true));
    let waiting = || server.metric("onward_num_requests_waiting");
    server.wait("a waiting request", || waiting() == 1.0);
    let third = response(connect(server.address(), &request(1, false)));
    let after = third.header("retry-after").map(str::parse::<u64>);
    assert!(matches!(after, Some(Ok(1..))), "{after:?}");
    let error = third.refused(429, "queue_full");
    assert_eq!(error["type"], "rate_limit_error");
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_request_whose_time_is_over_says_so() {
    let server = Server::tiny(&["-c", "200000", "--timeout", "0.3"]);
    let whole = response(connect(server.address(), &request(150_000, false)));
    whole.refused(504, "timeout");
    let events = response(connect(server.address(), &request(150_000, true))).events();
    assert!(events.len() > 2 && events[events.len() - 2].contains("\"timeout\""));
    // The figures come with the engine's next turn.
    server.wait("an idle engine", || running(&server) == 0.0);
}
