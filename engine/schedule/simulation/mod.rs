//! Random traces of requests against a device that knows what its cache holds.

mod check;
mod device;
mod random;
mod server;
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};

use random::Random;
use server::Coverage;
use trace::{Scale, Trace};

/// Serves the traces of these seeds.
fn serve_all(seeds: std::ops::Range<u64>, scale: Scale) -> Coverage {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = |thread: u64| {
        let mine = seeds
            .clone()
            .skip(thread as usize)
            .step_by(n_threads as usize);
        let mut sum = Coverage::default();
        for seed in mine {
            let mut random = Random::new(seed);
            let trace = Trace::new(&mut random, scale);
            let served = catch_unwind(AssertUnwindSafe(|| server::serve(&trace, random)));
            sum += served.unwrap_or_else(|_| panic!("the trace of seed {seed}"));
        }
        sum
    };
    std::thread::scope(|scope| {
        let share = &share;
        let threads: Vec<_> = (0..n_threads)
            .map(|thread| scope.spawn(move || share(thread)))
            .collect();
        let sums = threads
            .into_iter()
            .map(|thread| thread.join().expect("a trace is served"));
        sums.fold(Coverage::default(), |mut sum, share| {
            sum += share;
            sum
        })
    })
}

#[test]
fn a_hundred_thousand_traces_are_served_as_they_should() {
    let scale = Scale {
        visits: 8,
        slots: 4,
        pages: 9,
        prompt: 72,
        answer: 40,
    };
    let coverage = serve_all(0..100_000, scale);
    eprintln!("{coverage:?}");
    assert!(coverage.is_complete(), "{coverage:?}");
}

#[test]
fn many_at_once_are_served_as_they_should() {
    let scale = Scale {
        visits: 60,
        slots: 24,
        pages: 40,
        prompt: 200,
        answer: 150,
    };
    let coverage = serve_all(0..300, scale);
    eprintln!("{coverage:?}");
    assert!(coverage.is_complete(), "{coverage:?}");
}
