//! Load on a server that speaks OpenAI's API: many streams at once, as clients see them.
//!
//! Each stream is a thread that asks for one completion after another. Every prompt and every fate
//! comes from a seed: which are broken off in the middle, which are malformed. All moments are kept,
//! so that every figure can be computed again from them; nothing is averaged on the way.
//!
//! Where the server promises that a request gets the same tokens in any company, that is checked:
//! each prompt is first asked for alone.

mod client;
mod figures;
mod workload;

pub use client::{Client, Moments, Outcome};
pub use figures::{Percentiles, Report};
pub use workload::{Fate, Job, Workload};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is done to a server.
#[derive(Clone, Debug)]
pub struct Load {
    /// Streams at once.
    pub n_streams: usize,
    /// How long requests are begun.
    pub duration: Duration,
    /// What is asked for.
    pub workload: Workload,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which it was.
    pub job: Job,
    /// What came of it.
    pub outcome: Outcome,
    /// From the beginning of the load until it was asked.
    pub asked: Duration,
}

/// Asks for every prompt of the workload alone; its text, by the prompt's number.
///
/// # Errors
/// A server that does not answer one of them.
pub fn solo(client: &Client, workload: &Workload) -> Result<HashMap<usize, String>, String> {
    let ask = |prompt: usize| {
        let job = workload.whole(prompt);
        match client.ask(&job, Instant::now()) {
            Outcome::Finished { text, .. } => Ok((prompt, text)),
            other => Err(format!("prompt {prompt} alone: {other:?}")),
        }
    };
    (0..workload.n_prompts).map(ask).collect()
}

/// Puts the load on the server, and records every request.
pub fn run(client: &Client, load: &Load) -> Vec<Record> {
    let records = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..load.n_streams {
            scope.spawn(|| {
                while begun.elapsed() < load.duration {
                    let job = load.workload.job(next.fetch_add(1, Ordering::Relaxed));
                    let asked = begun.elapsed();
                    let outcome = client.ask(&job, Instant::now());
                    let record = Record {
                        job,
                        outcome,
                        asked,
                    };
                    records
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(record);
                }
            });
        }
    });
    records.into_inner().unwrap_or_else(PoisonError::into_inner)
}
