//! A request's tokens are the same bits however they come about.

use std::ops::ControlFlow;

use onward_engine::Request;
use onward_kernels::ops::sample::Sampler;
use onward_tests::random_request;

use crate::{Drawn, beside_others, cuda, engine, engine_of, serve};

const FAMILIES: [&str; 3] = ["llama", "qwen3", "gemma3"];

/// Steps launch by launch, steps recorded and repeated by the host, steps in a loop on the device,
/// and the tokens that the CPU's sampler draws from the logits of the whole text, which prefill
/// gives.
#[test]
fn recorded_steps_draw_what_launches_draw_and_what_prefill_says() {
    let _turn = beside_others();
    for family in FAMILIES {
        let mut looped = engine(family, cuda(), 512, 1);
        // Across the border of a page, and of a split of attention for the shorter graph.
        let requests = [
            random_request(&looped, 1, 20, 40),
            random_request(&looped, 2, 250, 12),
        ];
        let drawn: Vec<_> = (requests.iter())
            .map(|request| serve(&mut looped, std::slice::from_ref(request)).remove(0))
            .collect();
        let mut recorded = engine(family, cuda().without_loop(), 512, 1);
        let mut launched = engine(family, cuda().without_graphs(), 512, 1);
        for (request, drawn) in requests.iter().zip(&drawn) {
            assert_eq!(drawn.len(), request.max_tokens.unwrap(), "{family}");
            for other in [&mut recorded, &mut launched] {
                let by_host = serve(other, std::slice::from_ref(request)).remove(0);
                assert_eq!(*drawn, by_host, "{family}");
            }
            assert_eq!(*drawn, teacher_forced(family, request, drawn), "{family}");
        }
    }
}

/// What the CPU's sampler draws at each place of the text that `drawn` continues.
fn teacher_forced(family: &str, request: &Request, drawn: &[Drawn]) -> Vec<Drawn> {
    let mut engine = engine(family, cuda(), 512, 1);
    let new = drawn.iter().map(|&(token, ..)| token);
    let ids: Vec<u32> = request.prompt.iter().copied().chain(new).collect();
    let (first, end) = (request.prompt.len() - 1, ids.len() - 1);
    let mut sampler = Sampler::new();
    let mut expected = Vec::new();
    engine
        .evaluate(&ids, first..end, &mut |position, logits| {
            let history = &ids[..=position];
            let n = history.len() as u64;
            let sampled = sampler
                .sample(
                    logits,
                    &request.sampling,
                    history,
                    n,
                    None,
                    request.top_logprobs,
                )
                .unwrap();
            let top = sampled
                .top
                .iter()
                .map(|&(id, logprob)| (id, logprob.to_bits()));
            expected.push((sampled.token, sampled.logprob.to_bits(), top.collect()));
            ControlFlow::Continue(())
        })
        .unwrap();
    expected
}

/// Requests of different lengths join and leave; each gives what it gives alone, whole or in
/// chunks.
#[test]
fn neighbours_that_come_and_go_change_nothing() {
    let _turn = beside_others();
    for family in FAMILIES {
        let mut alone = engine(family, cuda(), 512, 1);
        let sizes = [
            (5, 30),
            (40, 3),
            (1, 17),
            (64, 9),
            (33, 1),
            (7, 25),
            (90, 12),
        ];
        let requests: Vec<_> = (sizes.iter().zip(3..))
            .map(|(&(length, n), seed)| random_request(&alone, seed, length, n))
            .collect();
        let expected: Vec<_> = (requests.iter())
            .map(|request| serve(&mut alone, std::slice::from_ref(request)).remove(0))
            .collect();
        for (n_sequences, chunk) in [(7, 512), (3, 16)] {
            let mut together = engine(family, cuda(), chunk, n_sequences);
            assert_eq!(serve(&mut together, &requests), expected, "{family}");
        }
    }
}

#[test]
fn a_batch_of_one_is_any_row_of_a_batch_of_64() {
    let _turn = beside_others();
    let mut alone = engine("llama", cuda(), 512, 1);
    let requests: Vec<_> = (0..64)
        .map(|seed| random_request(&alone, 100 + seed, 3 + seed as usize % 5, 6))
        .collect();
    let mut together = engine("llama", cuda(), 512, 64);
    let rows = serve(&mut together, &requests);
    for (request, row) in requests.iter().zip(&rows) {
        let drawn = serve(&mut alone, std::slice::from_ref(request)).remove(0);
        assert_eq!(drawn, *row);
    }
}

/// A request that fills its context is done before its neighbour. The steps that were asked for
/// until then run it again, beyond the end of its block table unless they know that it is done.
#[test]
fn a_full_context_leaves_its_neighbours_alone() {
    let _turn = beside_others();
    // A block table of one split of attention, every entry a page.
    let n_ctx = 256;
    let mut alone = engine_of("llama", cuda(), n_ctx, 512, 1);
    let mut requests = [
        random_request(&alone, 1, 250, 0),
        random_request(&alone, 2, 20, 40),
    ];
    requests[0].max_tokens = None;
    let expected: Vec<_> = (requests.iter())
        .map(|request| serve(&mut alone, std::slice::from_ref(request)).remove(0))
        .collect();
    assert_eq!(expected[0].len(), n_ctx + 1 - 250);
    let mut together = engine_of("llama", cuda(), n_ctx, 512, 2);
    assert_eq!(serve(&mut together, &requests), expected);
}
