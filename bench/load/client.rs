//! One request, as a client sees it.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::workload::{Fate, Job};

/// Asks a server.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    key: Option<String>,
    agent: ureq::Agent,
}

/// When things happened, from the moment of asking.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Each piece of text.
    pub pieces: Vec<Duration>,
    /// The end.
    pub end: Duration,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It came to its end.
    Finished {
        /// All of the text.
        text: String,
        /// When.
        moments: Moments,
    },
    /// The client broke off, as it was to.
    Dropped {
        /// The text until then.
        text: String,
    },
    /// The server refused it, with this status.
    Refused(u16),
    /// It was lost on the way.
    Lost(String),
}

impl Client {
    /// Asks the server at `url`, such as `http://127.0.0.1:8080`.
    pub fn new(url: &str, key: Option<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(600)))
            .max_idle_connections(0);
        Self {
            url: format!("{}/v1/completions", url.trim_end_matches('/')),
            key,
            agent: config.build().into(),
        }
    }

    /// Asks, and listens as long as the job's fate says. Moments count from `begun`.
    pub fn ask(&self, job: &Job, begun: Instant) -> Outcome {
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let response = match request.send(job.body.to_string()) {
            Ok(response) => response,
            Err(error) => return Outcome::Lost(error.to_string()),
        };
        match response.status().as_u16() {
            200 => listen(
                BufReader::new(response.into_body().into_reader()),
                job.fate,
                begun,
            ),
            status => Outcome::Refused(status),
        }
    }
}

/// Takes the server-sent events of a completion.
fn listen(events: impl BufRead, fate: Fate, begun: Instant) -> Outcome {
    let (mut text, mut moments) = (String::new(), Moments::default());
    for line in events.lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => return Outcome::Lost(error.to_string()),
        };
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            moments.end = begun.elapsed();
            return Outcome::Finished { text, moments };
        }
        let Ok(chunk) = serde_json::from_str::<Value>(data) else {
            return Outcome::Lost(format!("an event that is no JSON: {data}"));
        };
        if !chunk["error"].is_null() {
            return Outcome::Lost(chunk["error"].to_string());
        }
        let choice = &chunk["choices"][0];
        text += choice["text"].as_str().unwrap_or_default();
        // The event that only says why a completion ended is no piece of it.
        if choice["finish_reason"].is_null() {
            moments.pieces.push(begun.elapsed());
        }
        if matches!(fate, Fate::Dropped(after) if moments.pieces.len() >= after) {
            return Outcome::Dropped { text };
        }
    }
    Outcome::Lost("the answer ended before it was done".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = ": a comment\n\ndata: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n\
        data: {\"choices\":[{\"text\":\"b\",\"finish_reason\":null}]}\n\n\
        data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n";

    fn told(events: &str, fate: Fate) -> Outcome {
        listen(events.as_bytes(), fate, Instant::now())
    }

    #[test]
    fn events_become_a_text_and_its_moments() {
        let whole = format!("{EVENTS}data: [DONE]\n\n");
        let Outcome::Finished { text, moments } = told(&whole, Fate::Whole) else {
            panic!("it was whole");
        };
        assert_eq!((text.as_str(), moments.pieces.len()), ("ab", 2));
        assert!(moments.pieces[0] <= moments.pieces[1] && moments.pieces[1] <= moments.end);
        let dropped = Outcome::Dropped { text: "a".into() };
        assert_eq!(told(&whole, Fate::Dropped(1)), dropped);
    }

    #[test]
    fn what_is_cut_off_or_fails_is_lost() {
        assert!(matches!(told(EVENTS, Fate::Whole), Outcome::Lost(_)));
        let failed = "data: {\"error\":{\"message\":\"no\"}}\n\ndata: [DONE]\n\n";
        assert!(matches!(told(failed, Fate::Whole), Outcome::Lost(why) if why.contains("no")));
    }
}
