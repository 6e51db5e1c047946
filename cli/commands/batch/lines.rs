//! The lines of a batch: what is asked, and what was answered before.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The routes that a batch may ask.
const URLS: [&str; 3] = ["/v1/completions", "/v1/chat/completions", "/v1/embeddings"];

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// The name that its answer goes by.
    pub(super) custom_id: String,
    /// The route.
    pub(super) url: String,
    /// What is posted to it.
    pub(super) body: Value,
}

/// Reads a batch. Empty lines are none.
///
/// # Errors
/// A file that cannot be read; the first line that is no request, by its number.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = Vec::new();
    let mut known = HashSet::new();
    for (number, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let line = parse(text).with_context(|| format!("{}, line {number}", path.display()))?;
        if !known.insert(line.custom_id.clone()) {
            bail!(
                "{}, line {number}: the custom_id {:?} was there already",
                path.display(),
                line.custom_id
            );
        }
        lines.push(line);
    }
    Ok(lines)
}

fn parse(text: &str) -> anyhow::Result<Line> {
    let mut line: Value = serde_json::from_str(text).context("not JSON")?;
    let field = |name: &str| match &line[name] {
        Value::String(text) => Ok(text.clone()),
        _ => bail!("{name} is to be a string"),
    };
    let (custom_id, url) = (field("custom_id")?, field("url")?);
    ensure!(field("method")? == "POST", "method is to be POST");
    ensure!(
        URLS.contains(&url.as_str()),
        "url is {url:?}; {} are possible",
        URLS.join(", ")
    );
    let mut body = line["body"].take();
    let Some(fields) = body.as_object_mut() else {
        bail!("body is to be an object");
    };
    ensure!(
        !matches!(fields.get("stream"), Some(Value::Bool(true))),
        "a batch has no stream"
    );
    // There is one model, whatever it is called.
    fields.remove("model");
    Ok(Line {
        custom_id,
        url,
        body,
    })
}

/// The requests that an earlier output answered. What else it holds, failures and the half of a
/// line that a sudden end leaves, is taken out of it.
///
/// # Errors
/// A file that cannot be read or written, or that is no batch's output.
pub(super) fn take_over(path: &Path) -> anyhow::Result<HashSet<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    let (mut done, mut kept) = (HashSet::new(), String::new());
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let Some(whole) = line.strip_suffix('\n') else {
            break;
        };
        let answer: Value = serde_json::from_str(whole).unwrap_or_default();
        let Some(custom_id) = answer["custom_id"].as_str() else {
            bail!(
                "{}, line {number} is no answer of a batch: name another file for the output",
                path.display()
            );
        };
        if answer["response"]["status_code"] == 200 {
            done.insert(custom_id.to_owned());
            kept += line;
        }
    }
    if kept.len() < text.len() {
        let beside = path.with_extension("jsonl.part");
        let write = || fs::write(&beside, &kept).and_then(|()| fs::rename(&beside, path));
        write().with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_request_or_says_why_not() {
        let line = r#"{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"x"}}"#;
        let parsed = parse(line).unwrap();
        assert_eq!(parsed.body, serde_json::json!({"prompt": "x"}));
        for (from, to, said) in [
            ("\"a\"", "7", "custom_id is to be a string"),
            ("POST", "GET", "method is to be POST"),
            ("/v1/completions", "/v1/files", "are possible"),
            (
                "{\"model\":\"m\",\"prompt\":\"x\"}",
                "[]",
                "body is to be an object",
            ),
            ("\"prompt\"", "\"stream\":true,\"prompt\"", "no stream"),
            ("}}", "}", "not JSON"),
        ] {
            let error = format!("{:#}", parse(&line.replace(from, to)).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }
}
