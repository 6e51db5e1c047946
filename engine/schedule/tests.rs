//! What a scheduler does, example by example.

use std::time::Duration;

use super::{Arrival, Id, Limits, Refused, Scheduler, Work};
use crate::kv::PagePool;

const LIMITS: Limits = Limits {
    n_slots: 4,
    max_rows: 64,
    beside_decode: 16,
    n_ctx: 512,
    max_queue: 4,
    run_ahead: 1,
};

/// A scheduler with this many pages.
fn scheduler(n_pages: usize, limits: Limits) -> Scheduler {
    Scheduler::new(limits, &PagePool::new(n_pages))
}

/// A prompt of `n` tokens that begins like no other of another `text`.
fn prompt(text: u32, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| text * 1000 + i).collect()
}

fn submit(scheduler: &mut Scheduler, prompt: Vec<u32>, max_tokens: usize) -> Id {
    let arrival = Arrival::new(prompt, max_tokens);
    scheduler.submit(Duration::ZERO, arrival).unwrap()
}

/// Serves all there is to its end; how many prompt tokens passes ran.
fn serve(scheduler: &mut Scheduler) -> u64 {
    let before = scheduler.counters().pass_tokens;
    loop {
        let plan = scheduler.plan(Duration::ZERO);
        let drawn: Vec<Id> = match &plan.work {
            Work::Idle => return scheduler.counters().pass_tokens - before,
            Work::Pass(pieces) => {
                scheduler.ran();
                for piece in pieces.iter().filter(|piece| !piece.draws) {
                    if piece.tokens.end == scheduler.tokens(piece.id).len() {
                        scheduler.finish(piece.id);
                    }
                }
                let drawn = pieces.iter().filter(|piece| piece.draws);
                drawn.map(|piece| piece.id).collect()
            }
            Work::Steps { rows, n, .. } => {
                scheduler.asked(*n);
                scheduler.stepped();
                rows.iter().map(|row| row.id).collect()
            }
            Work::Drain => unreachable!("one step is done when it was asked for"),
        };
        for id in drawn {
            let token = 7 + scheduler.tokens(id).len() as u32;
            if !scheduler.drew(id, token) {
                scheduler.finish(id);
            }
        }
    }
}

#[test]
fn a_text_is_read_once() {
    let mut scheduler = scheduler(32, LIMITS);
    submit(&mut scheduler, prompt(1, 100), 20);
    assert_eq!(serve(&mut scheduler), 100);
    submit(&mut scheduler, prompt(1, 100), 20);
    assert_eq!(
        serve(&mut scheduler),
        1,
        "the last token's logits are wanted"
    );
    let mut fork = prompt(1, 70);
    fork.extend(prompt(2, 5));
    submit(&mut scheduler, fork, 1);
    assert_eq!(serve(&mut scheduler), 5, "a fork in the middle of a page");
}

#[test]
fn what_cannot_be_served_is_refused() {
    let mut scheduler = scheduler(2, LIMITS);
    let mut try_to = |n| scheduler.submit(Duration::ZERO, Arrival::new(prompt(1, n), 1));
    assert_eq!(try_to(0), Err(Refused::Empty));
    let too_long = Refused::TooLong {
        n_prompt: 65,
        n_ctx: 64,
    };
    assert_eq!(try_to(65), Err(too_long));
    for _ in 0..8 {
        try_to(64).unwrap();
    }
    assert!(matches!(
        try_to(64),
        Err(Refused::QueueFull { waiting: 8, .. })
    ));
}
