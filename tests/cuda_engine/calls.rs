//! What decoding asks of the driver: the host is not in the loop.

use std::ops::ControlFlow;

use onward_emulator::{Build, Calls, Copies, Emulator, Order};
use onward_engine::Event;

use crate::{cuda, engine, request};

/// The calls between one token and the next, for each token behind the first.
fn calls_between_tokens(family: &str, length: usize, n: usize) -> Vec<Calls> {
    // The emulated device alone counts calls.
    let emulator = Emulator::install(Build::Optimised).unwrap();
    let cuda = cuda();
    // From here on this thread's calls are counted apart from other tests'.
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    let mut engine = engine(family, cuda, 512, 1);
    let request = request(&engine, 5, length, n);
    let mut calls = Vec::new();
    engine
        .generate(&request, &mut |event| {
            if let Event::Token(_) = event {
                calls.push(emulator.take_calls());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    calls.split_off(1)
}

/// Once a step is recorded, a token is one launch of a graph, and nothing waits: not for a token,
/// not for a new page.
#[test]
fn a_token_is_one_launch_and_no_wait() {
    for family in ["llama", "qwen3", "gemma3"] {
        // Crosses four borders of pages, within one split of attention.
        let calls = calls_between_tokens(family, 40, 130);
        // A step runs launch by launch, then it is recorded; three are asked for ahead.
        let settled = &calls[4..];
        let sum = |count: fn(&Calls) -> u64| settled.iter().map(count).sum::<u64>();
        assert_eq!(sum(|calls| calls.waits), 0, "{family}");
        assert_eq!(sum(|calls| calls.allocations), 0, "{family}");
        assert_eq!(sum(|calls| calls.launches), 0, "{family}");
        let n_graphs = sum(|calls| calls.graph_launches) as usize;
        assert!(
            n_graphs <= settled.len() && n_graphs + 3 >= settled.len(),
            "{family}"
        );
    }
}

/// Where the block tables get longer than the recorded step's, another one is recorded; that takes
/// few waits, one in hundreds of tokens.
#[test]
fn a_longer_context_takes_another_graph_and_few_waits() {
    let calls = calls_between_tokens("llama", 200, 150);
    let waits: u64 = calls.iter().map(|calls| calls.waits).sum();
    assert!(waits <= 150 / 16, "{waits} waits");
    let graphs = calls
        .iter()
        .filter(|calls| calls.graph_launches > 0)
        .count();
    assert!(graphs > 130, "{graphs} of {} tokens by graphs", calls.len());
}

/// A caller that breaks off hears of no further token, and the engine serves the next request
/// with the tokens that it gives alone.
#[test]
fn breaking_off_leaves_nothing_behind() {
    let mut engine = engine("llama", cuda(), 512, 1);
    let request = request(&engine, 8, 30, 40);
    let mut run = |limit: usize| {
        let mut tokens = Vec::new();
        let completion = engine
            .generate(&request, &mut |event| {
                if let Event::Token(token) = event {
                    tokens.push(token.id);
                }
                match tokens.len() < limit {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })
            .unwrap();
        assert_eq!(completion.new_tokens, tokens.len());
        tokens
    };
    let whole = run(usize::MAX);
    assert_eq!(run(7), whole[..7]);
    assert_eq!(run(usize::MAX), whole);
}
