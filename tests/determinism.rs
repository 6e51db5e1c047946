//! Same model, same prompt, same seed: same tokens, whatever the threads, the chunks, the cache
//! and the neighbours.

use std::ops::ControlFlow;

use onward_engine::{Engine, EngineOptions, Event, FinishReason, Request};
use onward_kernels::Cpu;
use onward_kernels::ops::sample::SamplingParams;
use onward_tests::{GEMMA, golden, load, model_path};

const PROMPTS: [&str; 4] = [
    "Once upon a time, in a village by the sea,",
    "The three laws of motion are",
    "def quicksort(items):\n",
    "A recipe for bread: take flour,",
];

fn engine(threads: usize, chunk: usize, n_sequences: usize) -> Engine {
    let options = EngineOptions {
        n_ctx: Some(1024),
        n_sequences,
        chunk,
        ..EngineOptions::default()
    };
    load(&model_path(GEMMA), Cpu::new(threads).unwrap(), &options)
}

fn request(engine: &Engine, prompt: &str, seed: u64) -> Request {
    let prompt = engine.tokenizer().encode(prompt, true).unwrap();
    Request {
        sampling: SamplingParams {
            seed,
            repeat_penalty: 1.1,
            ..SamplingParams::default()
        },
        max_tokens: Some(24),
        ignore_eos: true,
        ..Request::new(prompt)
    }
}

/// Ids and exact log-probabilities of a completion.
fn run(engine: &mut Engine, request: &Request) -> Vec<(u32, u32)> {
    let mut tokens = Vec::new();
    engine
        .generate(request, &mut |event| {
            if let Event::Token(token) = event {
                tokens.push((token.id, token.logprob.to_bits()));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    tokens
}

fn solo(engine: &mut Engine, prompt: &str, seed: u64) -> Vec<(u32, u32)> {
    let request = request(engine, prompt, seed);
    engine.forget();
    run(engine, &request)
}

/// A prompt long enough to be cut by small chunks and to fill Gemma's window.
fn long_prompt() -> String {
    let text = std::fs::read_to_string(golden("texts").join("GPL-3")).unwrap();
    text.chars().take(3200).collect()
}

#[test]
fn threads_and_chunks_change_nothing() {
    let prompt = long_prompt();
    let expected = solo(&mut engine(2, 512, 1), &prompt, 7);
    assert_eq!(expected.len(), 24);
    for (threads, chunk) in [(1, 512), (2, 100), (3, 37)] {
        let tokens = solo(&mut engine(threads, chunk, 1), &prompt, 7);
        assert_eq!(tokens, expected, "{threads} threads, chunks of {chunk}");
    }
}

#[test]
fn a_batch_gives_what_each_request_gives_alone() {
    let mut engine = engine(2, 64, 3);
    let requests: Vec<_> = (0..)
        .zip(PROMPTS)
        .map(|(seed, prompt)| request(&engine, prompt, seed))
        .collect();
    let mut together = vec![Vec::new(); requests.len()];
    let completions = engine
        .generate_batch(&requests, &mut |index, event| {
            if let Event::Token(token) = event {
                together[index].push((token.id, token.logprob.to_bits()));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(
        completions
            .iter()
            .all(|c| c.reason == FinishReason::Length && c.new_tokens == 24)
    );
    for ((seed, prompt), tokens) in (0..).zip(PROMPTS).zip(&together) {
        assert_eq!(*tokens, solo(&mut engine, prompt, seed), "{prompt:?}");
    }
}

#[test]
fn seeds_matter() {
    let mut engine = engine(2, 512, 1);
    let a = solo(&mut engine, PROMPTS[0], 1);
    assert_ne!(a, solo(&mut engine, PROMPTS[0], 2));
}

#[test]
fn a_prompt_goes_on_from_what_the_cache_holds() {
    let mut engine = engine(2, 512, 2);
    let fresh = request(&engine, &(long_prompt() + PROMPTS[1]), 3);
    let expected = run(&mut engine, &fresh);
    engine.forget();

    // Filled with a text that only begins the same, then rewound.
    let other = request(&engine, &(long_prompt() + PROMPTS[2]), 4);
    run(&mut engine, &other);
    let mut cached = None;
    let mut tokens = Vec::new();
    let completion = engine
        .generate(&fresh, &mut |event| {
            match event {
                Event::Prefill { done, total } => cached = cached.or(Some((done, total))),
                Event::Token(token) => tokens.push((token.id, token.logprob.to_bits())),
                Event::PromptToken(_) => panic!("nobody asked for it"),
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(tokens, expected);
    let new = completion.prompt_tokens - completion.cached_tokens;
    assert!((1..20).contains(&new), "{new} tokens were processed anew");
    assert_eq!(cached, Some((fresh.prompt.len(), fresh.prompt.len())));
}

#[test]
fn breaking_off_leaves_a_usable_engine() {
    let mut engine = engine(2, 64, 1);
    let expected = solo(&mut engine, PROMPTS[0], 5);
    let request = request(&engine, PROMPTS[0], 5);
    let mut seen = 0;
    let completion = engine
        .generate(&request, &mut |event| match event {
            Event::Token(_) if seen == 4 => ControlFlow::Break(()),
            Event::Token(_) => {
                seen += 1;
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert_eq!(completion.reason, FinishReason::Interrupted);
    assert_eq!(completion.new_tokens, 5);
    assert_eq!(run(&mut engine, &request), expected);
}
