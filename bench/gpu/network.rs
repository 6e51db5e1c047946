//! Whole models with random weights: steps of decoding, and a prompt.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Event, Request};
use onward_kernels::cuda::{Cuda, StepClock};
use serde_json::{Value, json};

use crate::Bench;
use crate::model::{self, Precision};
use crate::record::Spread;
use crate::shapes::{Shape, Sizes};
use onward_kernels::ops::registry::Random;

/// Tokens of a prompt before decoding.
const PROMPT: usize = 8;
/// Positions of a sequence that is decoded, all within one split of attention.
const N_CTX: usize = 256;
/// Tokens of the prompt that is timed.
const LONG_PROMPT: usize = 2048;

/// A model that lies in a file.
struct Network<'a> {
    bench: &'a Bench,
    file: ModelFile,
    sizes: Sizes,
    /// Bytes of weights that a step reads.
    read: usize,
    /// The names in what is told of it.
    what: Value,
}

/// Writes the model, measures it, and removes it.
pub(crate) fn run(
    bench: &Bench,
    shape: Shape,
    precision: Precision,
    scratch: Option<&Path>,
) -> Result<()> {
    let folder = match scratch {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.context("cannot make a folder for the model")?;
    let (path, sizes) = (folder.path().join("random.gguf"), shape.sizes());
    let read = model::write(&path, &sizes, precision.format(), 2 * LONG_PROMPT)?;
    let network = Network {
        bench,
        file: ModelFile::open(&path)?,
        sizes,
        read,
        what: json!({ "model": shape.name(), "precision": precision.name() }),
    };
    network.decode("loop", bench.open()?)?;
    network.decode("graphs", bench.open()?.without_loop())?;
    network.decode("launches", bench.open()?.without_graphs())?;
    network.prefill("mma", bench.open()?)?;
    let mut hopper = bench.open()?;
    hopper.try_hopper();
    match hopper.hopper_formats().contains(&precision.format()) {
        true => network.prefill("wgmma", hopper),
        false => Ok(()),
    }
}

impl Network<'_> {
    fn load(&self, cuda: Cuda, n_ctx: usize, n_sequences: usize) -> Result<Engine> {
        let options = EngineOptions {
            n_ctx: Some(n_ctx),
            n_sequences,
            chunk: LONG_PROMPT,
            ..EngineOptions::default()
        };
        Ok(Engine::load(&self.file, cuda, &options, &mut |_| ())?)
    }

    /// The names, and more of them.
    fn and(&self, more: Value) -> Value {
        let mut what = self.what.clone();
        if let (Some(what), Some(more)) = (what.as_object_mut(), more.as_object()) {
            what.extend(more.clone());
        }
        what
    }

    /// A request for `n` tokens behind `length` random ones.
    fn request(&self, seed: u64, length: usize, n: usize) -> Request {
        let mut random = Random::new(seed);
        let prompt = (0..length).map(|_| random.below(self.sizes.vocab) as u32);
        Request {
            max_tokens: Some(n),
            ignore_eos: true,
            ..Request::new(prompt.collect())
        }
    }

    fn decode(&self, launch: &str, cuda: Cuda) -> Result<()> {
        let batches: &[usize] = self.bench.pick(&[1, 8, 64, 256], &[1, 2]);
        let n_sequences = batches.iter().copied().max().unwrap_or(1);
        let (clock, loops) = (cuda.step_clock(), cuda.uses_loop());
        let mut engine = self.load(cuda, N_CTX, n_sequences)?;
        let n = self.bench.pick(129, 5);
        for &batch in batches {
            // The steps that record graphs and load kernels.
            self.steps(&mut engine, batch, n, None)?;
            let times = (0..self.bench.pick(3, 1))
                .map(|_| self.steps(&mut engine, batch, n, None))
                .collect::<Result<Vec<_>>>()?;
            let positions = PROMPT + n / 2;
            let what = self.and(json!({
                "launch": launch,
                "batch": batch,
                "bytes": self.read + batch * positions * self.sizes.kv_bytes(),
                "flops": 2 * batch * self.sizes.n_weights(),
            }));
            Spread::new(times)?.say("decode", "us", &what)?;
            if loops {
                // What the device does between the steps of a loop no event tells.
                continue;
            }
            self.steps(&mut engine, batch, n, Some(&clock))?;
            let steps = clock.end()?;
            ensure!(steps.n_steps > 1, "no steps were noted");
            let idle = Spread::new(vec![f64::from(steps.between / steps.total)])?;
            idle.say("idle", "share", &what)?;
        }
        Ok(())
    }

    /// Microseconds of a step, by the host's clock: from the first token to the last.
    fn steps(
        &self,
        engine: &mut Engine,
        batch: usize,
        n: usize,
        clock: Option<&StepClock>,
    ) -> Result<f64> {
        let requests: Vec<_> = (0..batch as u64)
            .map(|seed| self.request(seed, PROMPT, n))
            .collect();
        let (mut first, mut last, mut n_tokens) = (None, Instant::now(), 0);
        engine.generate_batch(&requests, &mut |request, event| {
            if let (0, Event::Token(_)) = (request, event) {
                last = Instant::now();
                n_tokens += 1;
                if first.is_none() {
                    first = Some(last);
                    clock.inspect(|clock| clock.begin());
                }
            }
            ControlFlow::Continue(())
        })?;
        ensure!(n_tokens == n, "{n_tokens} tokens came of {n}");
        let first = first.context("no token came")?;
        Ok((last - first).as_secs_f64() * 1e6 / (n - 1) as f64)
    }

    fn prefill(&self, kernels: &str, cuda: Cuda) -> Result<()> {
        let n = self.bench.pick(LONG_PROMPT, 40);
        let mut engine = self.load(cuda, n + 1, 1)?;
        let mut times = Vec::new();
        for seed in 0..self.bench.pick(6, 2) {
            let request = self.request(1000 + seed, n, 1);
            let completion = engine.generate(&request, &mut |_| ControlFlow::Continue(()))?;
            times.push(completion.prefill_time.as_secs_f64() * 1e6);
        }
        // The first one loads kernels.
        let what = self.and(json!({
            "kernels": kernels,
            "tokens": n,
            "flops": self.sizes.prefill_flops(n),
        }));
        Spread::new(times.split_off(1))?.say("prefill", "us", &what)
    }
}
