//! Shared helpers of the test suite: where golden data and models are, and how distributions
//! are compared.

pub mod agreement;
pub mod attention_layer;
pub mod broken;
pub mod command;
pub mod device;
pub mod gguf_cut;
pub mod gguf_file;
pub mod tiny_model;
pub mod traffic;

use std::path::{Path, PathBuf};

use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Request};
use onward_kernels::Backend;
use onward_kernels::ops::sample::SamplingParams;
use serde::de::DeserializeOwned;

/// A file or folder under `tests/golden`, or under what `ONWARD_GOLDEN` names: a test program that
/// was carried to another machine has what it needs beside it.
pub fn golden(name: &str) -> PathBuf {
    let carried = std::env::var_os("ONWARD_GOLDEN").map(PathBuf::from);
    carried
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"))
        .join(name)
}

/// Reads a golden JSON file.
///
/// # Panics
/// If it is missing or not what the test expects: the checkout is broken.
pub fn golden_json<T: DeserializeOwned>(name: &str) -> T {
    let path = golden(name);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The Gemma 3 270M file that `make models` fetches.
pub const GEMMA: &str = "gemma-3-270m-q4_k_m.gguf";
/// The Qwen2.5-Coder 0.5B Instruct file that `make models` fetches.
pub const QWEN: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf";

/// A real model in the cache.
///
/// # Panics
/// If it is not there.
pub fn model_path(name: &str) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("ONWARD_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("XDG_CACHE_HOME")?).join("onward")))
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache/onward")))
        .unwrap_or_default();
    let path = cache.join("models").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make models`",
        path.display()
    );
    path
}

/// Loads a model for a test.
///
/// # Panics
/// If it does not load.
pub fn load<B: Backend>(path: &Path, backend: B, options: &EngineOptions) -> Engine {
    let file = ModelFile::open(path).unwrap_or_else(|e| panic!("{e}"));
    Engine::load(&file, backend, options, &mut |_| ()).unwrap_or_else(|e| panic!("{e}"))
}

/// A request for `n` tokens behind `length` tokens that `seed` chooses, past any end of the text.
pub fn random_request(engine: &Engine, seed: u32, length: usize, n: usize) -> Request {
    let vocab = engine.config().vocab_size as u32;
    let token = |i: u32| (seed.wrapping_mul(7919) ^ i.wrapping_mul(104_729)) % vocab;
    Request {
        sampling: SamplingParams {
            seed: seed.into(),
            repeat_penalty: 1.1,
            ..SamplingParams::default()
        },
        max_tokens: Some(n),
        ignore_eos: true,
        top_logprobs: 2,
        ..Request::new((0..length as u32).map(token).collect())
    }
}

/// Natural log-probabilities in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&l| (l as f64 - max).exp()).sum();
    logits.iter().map(|&l| l as f64 - max - sum.ln()).collect()
}

/// Kullback–Leibler divergence of `ours` from a golden distribution that is given by its most
/// probable tokens, everything else counting as one bucket.
pub fn kl_divergence(golden: &[(u32, f64)], ours: &[f64]) -> f64 {
    let (mut kl, mut golden_rest, mut our_rest) = (0.0, 1.0, 1.0);
    for &(id, logprob) in golden {
        let our_logprob = ours[id as usize];
        kl += logprob.exp() * (logprob - our_logprob);
        golden_rest -= logprob.exp();
        our_rest -= our_logprob.exp();
    }
    // Rounded golden values may leave a rest a hair below nothing.
    if golden_rest > 1e-9 {
        kl += golden_rest * (golden_rest / our_rest.max(1e-12)).ln();
    }
    kl
}
