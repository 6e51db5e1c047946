//! Every model family against Hugging Face transformers, on tiny random checkpoints.
//!
//! The checkpoints' prompt is longer than Gemma's window and than a page of the cache, so both
//! borders are crossed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use onward_emulator::{Build, Emulator};
use onward_engine::{EngineOptions, Request};
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::sample::SamplingParams;
use onward_kernels::{Backend, Cpu, PAGE_TOKENS, Reference};
use onward_tests::{golden, golden_json, load, log_softmax};
use serde::Deserialize;

const FAMILIES: [&str; 5] = ["llama", "llama3-rope", "qwen2", "qwen3", "gemma3"];

/// `expected.json`: transformers in float32 with eager attention.
#[derive(Deserialize)]
struct Expected {
    prompt: String,
    ids: Vec<u32>,
    positions: BTreeMap<usize, Vec<f64>>,
    greedy: Vec<u32>,
    margin: Vec<f64>,
}

fn options(chunk: usize) -> EngineOptions {
    EngineOptions {
        chunk,
        ..EngineOptions::default()
    }
}

/// The logits after every position.
fn logits<B: Backend>(family: &str, backend: B, chunk: usize, ids: &[u32]) -> Vec<Vec<f32>> {
    let path = golden("families").join(family);
    let mut engine = load(&path, backend, &options(chunk));
    let mut all = Vec::new();
    engine
        .evaluate(ids, 0..ids.len(), &mut |_, logits| {
            all.push(logits.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

/// The greatest difference among log-probabilities above −12, over the golden positions.
fn worst(expected: &Expected, logits: &[Vec<f32>]) -> f64 {
    assert!(expected.positions.len() >= 3);
    let mut worst: f64 = 0.0;
    for (&position, golden) in &expected.positions {
        let ours = log_softmax(&logits[position]);
        assert_eq!(ours.len(), golden.len());
        for (g, o) in golden.iter().zip(&ours) {
            if *g > -12.0 {
                worst = worst.max((g - o).abs());
            }
        }
    }
    worst
}

#[test]
fn log_probabilities_are_those_of_transformers() {
    for family in FAMILIES {
        let expected: Expected = golden_json(&format!("families/{family}/expected.json"));
        assert!(expected.ids.len() > PAGE_TOKENS, "a page border is crossed");
        let difference = worst(
            &expected,
            &logits(family, Reference::new(), 512, &expected.ids),
        );
        println!("{family}: {difference:.2e}");
        assert!(difference < 1e-3, "{family}: {difference}");
    }
}

/// The fast path rounds activations of the bf16 checkpoints to bf16, nothing else.
#[test]
fn the_cpu_agrees_with_the_reference() {
    for family in FAMILIES {
        let expected: Expected = golden_json(&format!("families/{family}/expected.json"));
        let cpu = Cpu::new(2).unwrap();
        let difference = worst(&expected, &logits(family, cpu, 512, &expected.ids));
        println!("{family}: {difference:.2e}");
        assert!(difference < 0.25, "{family}: {difference}");
    }
}

/// The CUDA kernels, all of a model's together, on the emulated device; prompts whole and in
/// chunks. Weights, activations, keys and values of these checkpoints are bf16 there.
#[test]
fn the_emulated_gpu_agrees_with_the_reference() {
    Emulator::install(Build::Optimised).unwrap();
    for family in FAMILIES {
        let expected: Expected = golden_json(&format!("families/{family}/expected.json"));
        let ids = &expected.ids;
        let whole = logits(family, Cuda::open(0).unwrap(), 512, ids);
        let difference = worst(&expected, &whole);
        println!("{family}: {difference:.2e}");
        assert!(difference < 0.25, "{family}: {difference}");
        let chunks = logits(family, Cuda::open(0).unwrap(), 7, ids);
        assert_eq!(whole, chunks, "{family}");
    }
}

#[test]
fn chunks_change_no_bit() {
    for family in FAMILIES {
        let expected: Expected = golden_json(&format!("families/{family}/expected.json"));
        let ids = &expected.ids;
        let whole = logits(family, Reference::new(), 512, ids);
        assert_eq!(whole, logits(family, Reference::new(), 7, ids), "{family}");
        let whole = logits(family, Cpu::new(2).unwrap(), 512, ids);
        assert_eq!(
            whole,
            logits(family, Cpu::new(1).unwrap(), 1, ids),
            "{family}"
        );
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for family in FAMILIES {
        let expected: Expected = golden_json(&format!("families/{family}/expected.json"));
        let path = golden("families").join(family);
        let mut engine = load(&path, Reference::new(), &options(512));
        assert_eq!(
            engine.tokenizer().encode(&expected.prompt, false).unwrap(),
            expected.ids,
            "{family}"
        );
        let request = Request {
            sampling: SamplingParams::greedy(),
            max_tokens: Some(expected.greedy.len()),
            ignore_eos: true,
            ..Request::new(expected.ids.clone())
        };
        let mut ids = Vec::new();
        engine
            .generate(&request, &mut |event| {
                if let onward_engine::Event::Token(token) = event {
                    ids.push(token.id);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        // Below this margin the two best tokens are closer than the arithmetic.
        let sure = expected.margin.iter().take_while(|&&m| m >= 2e-3).count();
        assert!(sure >= 7, "{family}: only {sure} sure tokens");
        assert_eq!(ids[..sure], expected.greedy[..sure], "{family}");
    }
}
