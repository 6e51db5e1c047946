//! Log-probabilities of a text, for a comparison with another program.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions};
use serde_json::json;

use crate::Bench;
use crate::record::say;

pub(crate) fn run(bench: &Bench, model: &Path, ids: &Path, output: &Path) -> Result<()> {
    let text = std::fs::read(ids).with_context(|| format!("cannot read {}", ids.display()))?;
    let ids: Vec<u32> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no list of token ids", ids.display()))?;
    let options = EngineOptions {
        n_ctx: Some(ids.len() + 1),
        ..EngineOptions::default()
    };
    let file = ModelFile::open(model)?;
    let mut engine = Engine::load(&file, bench.open()?, &options, &mut |_| ())?;
    let what = || format!("cannot write {}", output.display());
    let mut out = BufWriter::new(File::create(output).with_context(what)?);
    let mut written = Ok(());
    engine.evaluate(&ids, 0..ids.len(), &mut |_, logits| {
        written = out.write_all(&log_probabilities(logits));
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    written.and_then(|()| out.flush()).with_context(what)?;
    say(&json!({ "kind": "logits", "positions": ids.len(), "vocab": engine.config().vocab_size }))
}

/// As 32-bit floats.
fn log_probabilities(logits: &[f32]) -> Vec<u8> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    let shift = f64::from(max) + sum.ln();
    let values = logits.iter().map(|&x| (f64::from(x) - shift) as f32);
    values.flat_map(f32::to_le_bytes).collect()
}
