//! Taking times and telling of them.

use anyhow::{Context, Result, ensure};
use onward_kernels::cuda::{Cuda, Graph, Moment};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Milliseconds that one repeat is to take: many times what the clock resolves.
const REPEAT_MS: f32 = 5.0;

/// Writes a line to standard output.
pub(crate) fn say(value: &impl Serialize) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

/// Several measurements of the same thing.
#[derive(Clone, Debug)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) fn new(mut values: Vec<f64>) -> Result<Self> {
        ensure!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Ok(Self(values))
    }

    /// The line that tells of it: `what` says of what it is, `unit` in what.
    pub(crate) fn say(&self, kind: &str, unit: &str, what: &Value) -> Result<()> {
        let Self(values) = self;
        let mut line = Map::new();
        line.insert("kind".to_owned(), json!(kind));
        line.insert("unit".to_owned(), json!(unit));
        line.insert("value".to_owned(), json!(values[values.len() / 2]));
        line.insert("min".to_owned(), json!(values[0]));
        line.insert("max".to_owned(), json!(values[values.len() - 1]));
        line.insert("repeats".to_owned(), json!(values.len()));
        line.extend(what.as_object().cloned().unwrap_or_default());
        say(&line)
    }
}

/// Microseconds of a launch, by the device's clock. `launch` is given the number of the launch,
/// by which it takes its inputs in turn, `n_inputs` of them.
///
/// The launches are recorded and repeated as a graph, so that the host's calls are not in it;
/// where they cannot be recorded they are made one by one, which the flag tells.
pub(crate) fn time(
    cuda: &Cuda,
    repeats: usize,
    n_inputs: usize,
    mut launch: impl FnMut(usize) -> Result<()>,
) -> Result<(Spread, bool)> {
    let device = cuda.device();
    let between = |from: &Moment, to: &Moment| from.milliseconds_until(to);
    // Twice, for what a first launch loads and allocates.
    let mut once = 0.0;
    for _ in 0..2 {
        let from = device.moment()?;
        for index in 0..n_inputs {
            launch(index)?;
        }
        once = between(&from, &device.moment()?)?;
    }
    let rounds = (REPEAT_MS / once.max(1e-3)).ceil().clamp(1.0, 100.0) as usize;
    let n_launches = rounds * n_inputs;
    let mut failure = None;
    let graph = Graph::record(device, || {
        let all = (0..n_launches).try_for_each(|index| launch(index % n_inputs));
        all.map_err(|error| {
            let detail = error.to_string();
            failure = Some(error);
            onward_kernels::Error::Parameter(detail)
        })
    });
    device.synchronise().context(failure.map_or_else(
        || "after the launches were recorded".to_owned(),
        |error| error.to_string(),
    ))?;
    let (mut graph, is_recorded) = match graph {
        Ok(graph) => (Some(graph), true),
        Err(_) => (None, false),
    };
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let from = device.moment()?;
        match &mut graph {
            Some(graph) => graph.launch()?,
            None => (0..n_launches).try_for_each(|index| launch(index % n_inputs))?,
        }
        let to = device.moment()?;
        times.push(f64::from(between(&from, &to)?) * 1e3 / n_launches as f64);
    }
    Ok((Spread::new(times)?, is_recorded))
}
