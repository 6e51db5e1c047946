//! Continuous batching: carries out what the scheduler decides.
//!
//! A turn is one decision: a *pass* over pieces of prompts and the last tokens of those that
//! write, or, where all write, *steps* that the decoder does by itself, asked for ahead of their
//! tokens. Requests join and leave between turns.
//!
//! While the device runs a pass, the host finds out what a grammar allows next: requests under a
//! grammar go on by passes, since what they may draw depends on what they drew.

mod lane;
mod work;

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use onward_kernels::Batch;

use self::lane::{Lane, Sink, Writing};
use super::evaluating::OnLogits;
use super::pooling::Pooling;
use super::transcript::Transcript;
use crate::api::{FinishReason, Metrics, ModelInfo, Update};
use crate::error::{Error, Result};
use crate::model::Runner;
use crate::schedule::{Arrival, Expired, Id, Row, Scheduler, Work};

/// Requests that are served together.
pub(crate) struct Batching<'m> {
    info: &'m ModelInfo,
    runner: &'m mut dyn Runner,
    scheduler: &'m mut Scheduler,
    lanes: HashMap<Id, Lane<'m>>,
    /// Where the scheduler's clock began.
    epoch: Instant,
    batch: Batch,
    /// The rows that the decoder knows.
    rows: Vec<Row>,
    metrics: Metrics,
}

impl<'m> Batching<'m> {
    /// No requests yet. What the scheduler has cached is in the runner's cache.
    pub(crate) fn new(
        info: &'m ModelInfo,
        runner: &'m mut dyn Runner,
        scheduler: &'m mut Scheduler,
    ) -> Self {
        Self {
            info,
            runner,
            scheduler,
            lanes: HashMap::new(),
            epoch: Instant::now(),
            batch: Batch::default(),
            rows: Vec::new(),
            metrics: Metrics::default(),
        }
    }

    /// Takes a request. Its number, unless there can be no room for it, which its sink hears.
    pub(crate) fn submit(&mut self, transcript: Transcript<'m>, sink: Sink<'m>) -> Option<Id> {
        let request = transcript.request();
        let arrival = Arrival {
            compute_from: if request.prompt_logprobs {
                0
            } else {
                usize::MAX
            },
            queue_timeout: request.queue_timeout,
            timeout: request.timeout,
            by_pass: transcript.is_steered(),
            ..Arrival::new(request.prompt.clone(), request.max_new(self.info.n_ctx))
        };
        self.enter(
            arrival,
            Lane::Writing(Box::new(Writing { transcript, sink })),
        )
    }

    /// Takes a text whose vector is wanted.
    pub(crate) fn embed(&mut self, ids: Vec<u32>, pooling: Pooling<'m>) -> Option<Id> {
        let arrival = Arrival {
            compute_from: 0,
            ..Arrival::new(ids, 0)
        };
        self.enter(arrival, Lane::Pooling(pooling))
    }

    /// Takes a text whose logits behind `positions` are wanted.
    pub(crate) fn evaluate(
        &mut self,
        ids: Vec<u32>,
        positions: Range<usize>,
        listener: Box<OnLogits<'m>>,
    ) -> Option<Id> {
        let arrival = Arrival {
            compute_from: positions.start,
            ..Arrival::new(ids, 0)
        };
        self.enter(arrival, Lane::Evaluating(positions, listener))
    }

    fn enter(&mut self, arrival: Arrival, lane: Lane<'m>) -> Option<Id> {
        match self.scheduler.submit(self.epoch.elapsed(), arrival) {
            Ok(id) => {
                self.lanes.insert(id, lane);
                Some(id)
            }
            Err(refused) => {
                self.metrics.failed += 1;
                lane.fail(Error::Request(refused.to_string()));
                None
            }
        }
    }

    /// Ends a request before its time, if it has not ended.
    pub(crate) fn cancel(&mut self, id: Id) {
        self.end(id, FinishReason::Interrupted);
    }

    /// Ends all requests before their time.
    pub(crate) fn cancel_all(&mut self) {
        let ids: Vec<Id> = self.lanes.keys().copied().collect();
        for id in ids {
            self.cancel(id);
        }
    }

    /// Whether nobody is being served, and nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.scheduler.is_idle()
    }

    /// Counts and times up to now.
    pub(crate) fn metrics(&self) -> Metrics {
        let counters = self.scheduler.counters();
        Metrics {
            running: counters.running,
            slots: self.scheduler.limits().n_slots,
            waiting: counters.waiting,
            pages_used: counters.pages_held,
            pages_cached: counters.pages_cached,
            pages_total: counters.pages,
            preemptions: counters.preemptions,
            departure_interval: counters.departure_interval,
            prompt_tokens: counters.prompt_tokens,
            cached_tokens: counters.hit_tokens,
            ..self.metrics.clone()
        }
    }

    /// Does what is to be done next.
    ///
    /// # Errors
    /// A failing device: nothing can go on then. What goes wrong with one request, its caller
    /// hears.
    pub(crate) fn turn(&mut self) -> Result<()> {
        let plan = self.scheduler.plan(self.epoch.elapsed());
        for Expired { id, .. } in plan.expired {
            self.end(id, FinishReason::TimedOut);
        }
        for admitted in plan.admitted {
            if let Some(Lane::Writing(writing)) = self.lanes.get_mut(&admitted.id) {
                writing.transcript.begin(admitted.cached);
            }
        }
        if !plan.copies.is_empty() {
            let copies: Vec<_> = plan
                .copies
                .iter()
                .map(|copy| (copy.from, copy.to))
                .collect();
            self.runner.copy_pages(&copies)?;
        }
        match plan.work {
            Work::Idle => Ok(()),
            Work::Pass(pieces) => self.pass(&pieces),
            Work::Steps { rows, n, is_new } => self.steps(rows, n, is_new),
            Work::Drain => self.drain(),
        }
    }

    /// Ends a request for this reason, unless it has ended for another one.
    fn end(&mut self, id: Id, reason: FinishReason) {
        match self.lanes.get_mut(&id) {
            Some(Lane::Writing(writing)) => {
                writing.transcript.finish(reason);
                self.settle(id);
            }
            Some(Lane::Pooling(_)) => self.fail(id, Error::Request("it was broken off".into())),
            Some(Lane::Evaluating(..)) => self.settle(id),
            None => {}
        }
    }

    /// Tells a request's outcome.
    fn settle(&mut self, id: Id) {
        self.scheduler.finish(id);
        match self.lanes.remove(&id) {
            Some(Lane::Pooling(pooling)) => pooling.finish(),
            Some(Lane::Writing(writing)) => {
                let metrics = &mut self.metrics;
                metrics
                    .end_to_end
                    .record(writing.transcript.asked().elapsed());
                writing.end(|transcript| {
                    let completion = transcript.complete();
                    metrics.queue_time.record(completion.queue_time);
                    *match completion.reason {
                        FinishReason::Interrupted => &mut metrics.cancelled,
                        FinishReason::TimedOut => &mut metrics.timed_out,
                        FinishReason::Stop | FinishReason::Length => &mut metrics.finished,
                    } += 1;
                    Update::Finished(completion)
                });
            }
            Some(Lane::Evaluating(..)) | None => {}
        }
    }

    /// Ends a request that cannot go on.
    fn fail(&mut self, id: Id, error: Error) {
        self.scheduler.finish(id);
        self.metrics.failed += 1;
        if let Some(lane) = self.lanes.remove(&id) {
            lane.fail(error);
        }
    }

    /// Ends all requests, since the device has failed.
    pub(crate) fn fail_all(&mut self, why: &str) {
        let ids: Vec<Id> = self.lanes.keys().copied().collect();
        for id in ids {
            self.fail(id, Error::Failed(why.to_owned()));
        }
    }
}

impl Drop for Batching<'_> {
    fn drop(&mut self) {
        // Whoever is left is told nothing: their caller has gone. What the cache holds of them
        // stays, once no step writes to it any more; an error is the device's last word, which
        // whoever uses it next will hear.
        let ids: Vec<Id> = self.lanes.keys().copied().collect();
        for id in ids {
            self.scheduler.finish(id);
            self.lanes.remove(&id);
        }
        let _ = self.drain();
    }
}
