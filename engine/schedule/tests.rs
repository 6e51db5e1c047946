//! What a scheduler does, example by example.

use std::time::Duration;

use super::{Arrival, Id, Limits, Refused, Scheduler, Work};

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
    Scheduler::new(limits, n_pages)
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
fn one_prompt_of_many_is_read_once() {
    let mut scheduler = scheduler(64, LIMITS);
    for _ in 0..4 {
        submit(&mut scheduler, prompt(1, 100), 1);
    }
    // Three full pages are shared; everyone computes what is behind them.
    assert_eq!(serve(&mut scheduler), 96 + 4 * 4);
    let counters = scheduler.counters();
    assert_eq!((counters.prompt_tokens, counters.hit_tokens), (400, 288));
}

#[test]
fn what_is_wanted_of_a_prompt_is_computed() {
    let mut scheduler = scheduler(32, LIMITS);
    submit(&mut scheduler, prompt(1, 100), 1);
    serve(&mut scheduler);
    let arrival = Arrival {
        compute_from: 50,
        ..Arrival::new(prompt(1, 100), 0)
    };
    let id = scheduler.submit(Duration::ZERO, arrival).unwrap();
    let before = scheduler.counters();
    let plan = scheduler.plan(Duration::ZERO);
    assert_eq!(plan.admitted[0].cached, 50);
    assert_eq!(scheduler.n_cached(id), 50);
    let Work::Pass(pieces) = &plan.work else {
        panic!("{plan:?}");
    };
    assert_eq!(pieces[0].tokens, 50..100);
    assert!(!pieces[0].draws);
    scheduler.ran();
    scheduler.finish(id);
    scheduler.plan(Duration::ZERO);
    let after = scheduler.counters();
    assert_eq!(
        after.pages_cached, before.pages_cached,
        "nothing is kept twice"
    );
}

#[test]
fn the_latest_gives_way_and_goes_on_where_it_was() {
    let limits = Limits {
        n_slots: 2,
        ..LIMITS
    };
    let mut scheduler = scheduler(5, limits);
    let first = submit(&mut scheduler, prompt(1, 33), 60);
    let second = submit(&mut scheduler, prompt(2, 33), 60);
    let (mut preempted, mut resumed) = (Vec::new(), Vec::new());
    let mut done = Vec::new();
    while done.len() < 2 {
        let plan = scheduler.plan(Duration::ZERO);
        preempted.extend(plan.preempted);
        let resumes = plan.admitted.iter().filter(|admitted| admitted.is_resumed);
        resumed.extend(resumes.map(|admitted| (admitted.id, admitted.cached)));
        let drawn: Vec<Id> = match plan.work {
            Work::Pass(pieces) => {
                scheduler.ran();
                pieces.iter().map(|piece| piece.id).collect()
            }
            Work::Steps { rows, n, .. } => {
                scheduler.asked(n);
                scheduler.stepped();
                rows.iter().map(|row| row.id).collect()
            }
            Work::Idle | Work::Drain => panic!("somebody waits for nothing"),
        };
        for id in drawn {
            let tokens = scheduler.tokens(id).len() as u32;
            if !scheduler.drew(id, tokens) {
                done.push((id, scheduler.tokens(id).len()));
                scheduler.finish(id);
            }
        }
    }
    assert_eq!(preempted, [second]);
    assert_eq!(done, [(first, 93), (second, 93)]);
    // Of what it had run, nothing had to be evicted.
    assert_eq!(resumed, [(second, 64)]);
}

#[test]
fn who_leaves_is_not_served_again() {
    let limits = Limits {
        run_ahead: 3,
        ..LIMITS
    };
    let mut scheduler = scheduler(8, limits);
    let (first, second) = (
        submit(&mut scheduler, prompt(1, 5), 50),
        submit(&mut scheduler, prompt(2, 5), 50),
    );
    scheduler.plan(Duration::ZERO);
    scheduler.ran();
    for id in [first, second] {
        assert!(scheduler.drew(id, 1));
    }
    let plan = scheduler.plan(Duration::ZERO);
    assert!(matches!(plan.work, Work::Steps { n: 3, .. }), "{plan:?}");
    scheduler.asked(3);
    let pages = scheduler.pages(first).to_vec();
    assert!(scheduler.finish(first));
    assert_eq!(scheduler.plan(Duration::ZERO).work, Work::Drain);
    assert_eq!(
        scheduler.pages(first),
        pages,
        "steps that are under way still write"
    );
    assert!(!scheduler.drew(first, 1));
    scheduler.drained();
    let Work::Steps { rows, is_new, .. } = scheduler.plan(Duration::ZERO).work else {
        panic!("the other goes on");
    };
    assert!(is_new && rows.len() == 1 && rows[0].id == second);
    assert!(scheduler.pages(first).is_empty());
}

#[test]
fn who_comes_while_steps_are_under_way_is_served_next() {
    let limits = Limits {
        run_ahead: 8,
        ..LIMITS
    };
    let mut scheduler = scheduler(8, limits);
    let first = submit(&mut scheduler, prompt(1, 5), 50);
    scheduler.plan(Duration::ZERO);
    scheduler.ran();
    assert!(scheduler.drew(first, 1));
    let plan = scheduler.plan(Duration::ZERO);
    assert!(matches!(plan.work, Work::Steps { n: 8, .. }), "{plan:?}");
    scheduler.asked(8);
    let second = submit(&mut scheduler, prompt(2, 5), 50);
    assert_eq!(scheduler.plan(Duration::ZERO).work, Work::Drain);
    scheduler.drained();
    let plan = scheduler.plan(Duration::ZERO);
    assert_eq!(plan.admitted[0].id, second);
    assert!(matches!(plan.work, Work::Pass(pieces) if pieces.len() == 2));
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
