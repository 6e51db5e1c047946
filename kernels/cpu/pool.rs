//! A fork-join pool whose workers spin between jobs.
//!
//! A forward pass is some hundreds of operations of 10–1000 µs each; waking a sleeping thread
//! takes as long as the small ones. So a worker that has finished looks for the next job for a
//! while (`SPIN`), then lets others run while it looks (`LINGER`), and only then sleeps.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long a worker looks for the next job without giving its core away.
const SPIN: Duration = Duration::from_micros(100);
/// How long it then goes on looking while offering its core to others.
const LINGER: Duration = Duration::from_millis(2);
/// Looks between two readings of the clock.
const LOOKS: u32 = 64;

type Job = *const (dyn Fn(usize) + Sync);
type Panic = Box<dyn Any + Send>;

thread_local! {
    /// Set while this thread runs a job: a run inside a run is done by this thread alone.
    static IN_JOB: Cell<bool> = const { Cell::new(false) };
}

struct Shared {
    /// Counts jobs; a change tells the workers that `job` holds a new one.
    epoch: AtomicUsize,
    /// Workers that have not finished the current job.
    running: AtomicUsize,
    /// Workers that sleep or are about to.
    sleeping: AtomicUsize,
    stop: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Panic>>,
}

// SAFETY: `job` is written only by the thread that holds `Pool::turn`, while no worker runs
// (`running` is 0), and read only by workers after they have seen the epoch change that follows
// the write. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is used only while `Pool::run` keeps its target alive.
unsafe impl Send for Shared {}

/// Threads that run a closure together, the caller among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held for the length of a run, so that runs from several threads take turns.
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `n_threads`, the calling thread being one of them.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0 threads, [`Error::Device`] if a thread cannot be started.
    pub fn new(n_threads: usize) -> Result<Pool> {
        if n_threads == 0 {
            return Err(Error::Parameter("threads must be at least 1".into()));
        }
        let mut pool = Pool {
            shared: Arc::new(Shared {
                epoch: AtomicUsize::new(0),
                running: AtomicUsize::new(0),
                sleeping: AtomicUsize::new(0),
                stop: AtomicBool::new(false),
                job: UnsafeCell::new(None),
                panic: Mutex::new(None),
            }),
            workers: Vec::new(),
            turn: Mutex::new(()),
        };
        for index in 1..n_threads {
            let shared = Arc::clone(&pool.shared);
            let worker = thread::Builder::new()
                .name(format!("onward-{index}"))
                .spawn(move || work(&shared, index))
                .map_err(|e| Error::Device {
                    device: "cpu".into(),
                    detail: format!("thread {index} of {n_threads} cannot be started: {e}"),
                })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads that take part in a run.
    pub fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` once with each of `0..n_threads()` and returns when all calls have. The
    /// calls run at the same time, unless this is itself called from within a job: then they
    /// follow one another, so they must not wait for each other.
    ///
    /// # Panics
    /// With the first panic of a call, after all calls have ended.
    pub fn run(&self, job: impl Fn(usize) + Sync) {
        if self.workers.is_empty() || IN_JOB.get() {
            (0..self.n_threads()).for_each(job);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish(&job);
        IN_JOB.set(true);
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        IN_JOB.set(false);
        self.join();
        let others = take_panic(&self.shared);
        drop(turn);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if let Some(panic) = others {
            resume_unwind(panic);
        }
    }

    /// Calls `work` on each worker with its share of `0..n_items`: consecutive, almost equal,
    /// beginning at multiples of `granularity`, in the order of the workers. Idle workers are
    /// not called; work too small to share stays on the calling thread.
    pub fn split(&self, n_items: usize, granularity: usize, work: impl Fn(Range<usize>) + Sync) {
        let granularity = granularity.max(1);
        let grains = n_items.div_ceil(granularity);
        if grains <= 1 {
            if n_items > 0 {
                work(0..n_items);
            }
            return;
        }
        let n = self.n_threads();
        self.run(|worker| {
            let first = grains * worker / n * granularity;
            let last = (grains * (worker + 1) / n * granularity).min(n_items);
            if first < last {
                work(first..last);
            }
        });
    }

    /// Calls `work` with each of `0..n_tasks`; a worker takes the next one when it has done
    /// its last. For tasks of unequal cost.
    pub fn each(&self, n_tasks: usize, work: impl Fn(usize) + Sync) {
        if n_tasks <= 1 {
            (0..n_tasks).for_each(work);
            return;
        }
        let next = AtomicUsize::new(0);
        self.run(|_| {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= n_tasks {
                    return;
                }
                work(task);
            }
        });
    }

    fn publish<'a>(&self, job: &'a (dyn Fn(usize) + Sync + 'a)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; `run` does not return before `running` is 0 again,
        // so no worker uses the pointer after the closure is gone.
        let job = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'a), Job>(job as *const _)
        };
        // SAFETY: this thread holds `turn` and `running` is 0: nobody reads the cell now.
        unsafe { *shared.job.get() = Some(job) };
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        // Sequentially consistent with the worker's check before it sleeps: either it sees the
        // new epoch or this thread sees it sleeping.
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn join(&self) {
        let mut looks = 0u32;
        while self.shared.running.load(Ordering::Acquire) > 0 {
            looks += 1;
            if looks < 1_000 {
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    fn wake(&self) {
        for worker in &self.workers {
            worker.thread().unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.wake();
        for worker in self.workers.drain(..) {
            // A worker catches its jobs' panics, so there is nothing to learn from its end.
            let _ = worker.join();
        }
    }
}

fn take_panic(shared: &Shared) -> Option<Panic> {
    let mut panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
    panic.take()
}

fn work(shared: &Shared, index: usize) {
    IN_JOB.set(true);
    let mut seen = 0;
    loop {
        seen = next_epoch(shared, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the epoch changed after the cell was written, and it is not written again
        // before this worker has counted itself out below.
        if let Some(job) = unsafe { *shared.job.get() } {
            // SAFETY: `Pool::run` keeps the closure alive until `running` is 0.
            let job = unsafe { &*job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(index))) {
                let mut first = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(panic);
            }
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for the epoch to differ from `seen` and returns it.
fn next_epoch(shared: &Shared, seen: usize) -> usize {
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            let epoch = shared.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        let waited = start.elapsed();
        if waited > LINGER {
            shared.sleeping.fetch_add(1, Ordering::SeqCst);
            while shared.epoch.load(Ordering::SeqCst) == seen {
                thread::park();
            }
            shared.sleeping.fetch_sub(1, Ordering::SeqCst);
        } else if waited > SPIN {
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_runs_once_and_shares_cover_all() {
        for n in [1, 2, 3, 5] {
            let pool = Pool::new(n).unwrap();
            for _ in 0..200 {
                let calls: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool.run(|w| _ = calls[w].fetch_add(1, Ordering::Relaxed));
                assert!(calls.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
            for (items, grain) in [(0, 4), (3, 4), (64, 4), (65, 16), (1000, 1)] {
                let hits: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                pool.split(items, grain, |range| {
                    assert_eq!(range.start % grain, 0);
                    range.for_each(|i| _ = hits[i].fetch_add(1, Ordering::Relaxed));
                });
                pool.each(items, |i| _ = hits[i].fetch_add(1, Ordering::Relaxed));
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 2));
            }
        }
    }

    #[test]
    fn runs_from_several_threads_and_within_a_run_end() {
        let pool = Pool::new(3).unwrap();
        let calls = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(|_| pool.run(|_| _ = calls.fetch_add(1, Ordering::Relaxed)));
                    }
                });
            }
        });
        assert_eq!(calls.load(Ordering::Relaxed), 4 * 50 * 9);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).unwrap();
        for guilty in [0, 1] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(|worker| assert_ne!(worker, guilty, "planted"));
            }));
            assert!(result.is_err());
            pool.run(|_| {});
        }
        thread::sleep(LINGER * 2);
        pool.run(|_| {});
    }
}
