//! Who computes which units of work.
//!
//! Each worker owns a contiguous run of units and walks it from the front, because memory is
//! read fastest in long runs. A worker that is done takes over the far half of another's rest:
//! a core that the system has lent away for a while does not hold the others up.

use std::sync::atomic::{AtomicU64, Ordering};

/// A worker's remaining units `next..end` in one word, on a cache line of its own.
#[repr(align(64))]
struct Run(AtomicU64);

fn pack(next: u32, end: u32) -> u64 {
    u64::from(next) | u64::from(end) << 32
}

fn unpack(run: u64) -> (u32, u32) {
    (run as u32, (run >> 32) as u32)
}

/// The units of one operation.
pub(super) struct Schedule {
    runs: Vec<Run>,
    least_steal: u32,
}

impl Schedule {
    /// `n_units` in equal shares. Of fewer than `least_steal` units left nothing is taken over:
    /// a new stream from memory takes time to begin.
    pub(super) fn new(n_units: usize, n_workers: usize, least_steal: u32) -> Schedule {
        let border = |worker: usize| (n_units * worker / n_workers) as u32;
        let run = |worker| Run(AtomicU64::new(pack(border(worker), border(worker + 1))));
        Schedule {
            runs: (0..n_workers).map(run).collect(),
            least_steal,
        }
    }

    /// The next unit for `worker`, each unit exactly once; `None` when none is left to take.
    pub(super) fn next(&self, worker: usize) -> Option<usize> {
        let own = &self.runs[worker].0;
        loop {
            let run = own.load(Ordering::Relaxed);
            let (next, end) = unpack(run);
            if next < end {
                let rest = pack(next + 1, end);
                // Relaxed throughout: units share no data, and the pool orders what they write
                // before what follows the operation.
                if own
                    .compare_exchange_weak(run, rest, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
                {
                    return Some(next as usize);
                }
            } else {
                let (first, end) = self.steal(worker)?;
                // Nobody else writes to an empty run.
                own.store(pack(first + 1, end), Ordering::Relaxed);
                return Some(first as usize);
            }
        }
    }

    /// Takes the far half, rounded up, of the first other run that has enough left.
    fn steal(&self, worker: usize) -> Option<(u32, u32)> {
        let n = self.runs.len();
        for victim in (1..n).map(|distance| &self.runs[(worker + distance) % n].0) {
            let mut run = victim.load(Ordering::Relaxed);
            loop {
                let (next, end) = unpack(run);
                if end.saturating_sub(next) < self.least_steal.max(1) {
                    break;
                }
                let middle = next + (end - next) / 2;
                let rest = pack(next, middle);
                match victim.compare_exchange_weak(run, rest, Ordering::Relaxed, Ordering::Relaxed)
                {
                    Ok(_) => return Some((middle, end)),
                    Err(now) => run = now,
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_given_out_once() {
        for (n_units, n_workers) in [(0, 2), (1, 3), (1000, 1), (1000, 4), (3, 8)] {
            let schedule = Schedule::new(n_units, n_workers, 1);
            let taken: Vec<AtomicU64> = (0..n_units).map(|_| AtomicU64::new(0)).collect();
            std::thread::scope(|scope| {
                for worker in 0..n_workers {
                    let (schedule, taken) = (&schedule, &taken);
                    scope.spawn(move || {
                        while let Some(unit) = schedule.next(worker) {
                            taken[unit].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert!(taken.iter().all(|t| t.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn one_worker_alone_does_the_work_of_all() {
        let schedule = Schedule::new(100, 4, 0);
        assert_eq!(std::iter::from_fn(|| schedule.next(2)).count(), 100);
    }
}
