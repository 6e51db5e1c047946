//! `/metrics`: what the service counted, in the text format of Prometheus.

use std::fmt::{Display, Write};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use onward_engine::Metrics;
use onward_engine::api::Histogram;

use super::app::App;
use super::protocol::error::ApiError;

/// Counts and times for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, description = "Metrics as text", body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let text = text(&app.loaded()?.service.metrics());
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((kind, text).into_response())
}

fn text(metrics: &Metrics) -> String {
    let m = metrics;
    let mut out = String::new();
    let mut gauge = |name, help, value: f64| add(&mut out, name, "gauge", help, value);
    gauge(
        "num_requests_running",
        "Requests that are being served.",
        m.running as f64,
    );
    gauge(
        "num_requests_waiting",
        "Requests that wait.",
        m.waiting as f64,
    );
    let share = |n: usize| n as f64 / m.pages_total.max(1) as f64;
    gauge(
        "kv_cache_usage_perc",
        "Share of the KV cache in use, from 0 to 1.",
        share(m.pages_used),
    );
    gauge(
        "prefix_cache_usage_perc",
        "Share of the KV cache that holds beginnings of earlier requests, from 0 to 1.",
        share(m.pages_cached),
    );
    let mut counter = |name, help, value: u64| add(&mut out, name, "counter", help, value);
    counter(
        "prompt_tokens_total",
        "Prompt tokens, cached ones included.",
        m.prompt_tokens,
    );
    counter(
        "generation_tokens_total",
        "Tokens generated.",
        m.generated_tokens,
    );
    counter(
        "prefix_cache_queries_total",
        "Prompt tokens looked for in the cache.",
        m.prompt_tokens,
    );
    counter(
        "prefix_cache_hits_total",
        "Prompt tokens found in the cache.",
        m.cached_tokens,
    );
    counter(
        "num_preemptions_total",
        "Requests that had to make room for others.",
        m.preemptions,
    );
    counter(
        "engine_restarts_total",
        "Engines that failed and were loaded again.",
        m.restarts,
    );
    requests(&mut out, m);
    for (name, help, histogram) in [
        (
            "time_to_first_token_seconds",
            "From a request to its first token.",
            &m.time_to_first_token,
        ),
        (
            "inter_token_latency_seconds",
            "From one token to the next.",
            &m.inter_token,
        ),
        (
            "e2e_request_latency_seconds",
            "From a request to its end.",
            &m.end_to_end,
        ),
        (
            "request_queue_time_seconds",
            "From a request to its beginning.",
            &m.queue_time,
        ),
    ] {
        add_histogram(&mut out, name, help, histogram);
    }
    out
}

// Writing to a String cannot fail.

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP onward_{name} {help}");
    let _ = writeln!(out, "# TYPE onward_{name} {kind}");
}

fn add(out: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    head(out, name, kind, help);
    let _ = writeln!(out, "onward_{name} {value}");
}

fn requests(out: &mut String, m: &Metrics) {
    head(
        out,
        "requests_total",
        "counter",
        "Requests by how they ended.",
    );
    for (end, n) in [
        ("finished", m.finished),
        ("cancelled", m.cancelled),
        ("timed_out", m.timed_out),
        ("failed", m.failed),
    ] {
        let _ = writeln!(out, "onward_requests_total{{end=\"{end}\"}} {n}");
    }
}

fn add_histogram(out: &mut String, name: &str, help: &str, histogram: &Histogram) {
    head(out, name, "histogram", help);
    for (bound, n) in histogram.cumulative() {
        let _ = writeln!(out, "onward_{name}_bucket{{le=\"{bound}\"}} {n}");
    }
    let (n, sum) = (histogram.count(), histogram.sum());
    let _ = writeln!(out, "onward_{name}_bucket{{le=\"+Inf\"}} {n}");
    let _ = writeln!(out, "onward_{name}_sum {sum}");
    let _ = writeln!(out, "onward_{name}_count {n}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_type_and_a_value() {
        let metrics = Metrics {
            running: 3,
            pages_used: 1,
            pages_total: 4,
            ..Metrics::default()
        };
        let text = text(&metrics);
        assert!(text.contains("\nonward_num_requests_running 3\n"), "{text}");
        assert!(
            text.contains("\nonward_kv_cache_usage_perc 0.25\n"),
            "{text}"
        );
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for name in names.map(|line| line.split(' ').next().unwrap_or_default()) {
            let has_value = |line: &str| line.starts_with(name);
            assert!(text.lines().any(has_value), "{name}");
            assert_eq!(
                text.matches(&format!("# TYPE {name} ")).count(),
                1,
                "{name}"
            );
        }
    }
}
