//! Counts and times of a service.

use std::time::Duration;

/// Counts and times since a [`Service`](super::Service) began.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Requests that are being served.
    pub running: usize,
    /// Requests that can be served at once.
    pub slots: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Pages of the KV cache that hold sequences which are being served.
    pub pages_used: usize,
    /// Pages that hold beginnings of earlier ones, given up when others need them.
    pub pages_cached: usize,
    /// Pages in all.
    pub pages_total: usize,
    /// Requests served to their ends.
    pub finished: u64,
    /// Requests that were broken off by their callers.
    pub cancelled: u64,
    /// Requests whose time was over.
    pub timed_out: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Engines that failed.
    pub restarts: u64,
    /// Requests that had to make room for older ones, to go on later; each time counts.
    pub preemptions: u64,
    /// The time from one request's end to the next one's, of late.
    pub departure_interval: Duration,
    /// Prompt tokens of the requests begun, cached ones included.
    pub prompt_tokens: u64,
    /// Of those, the ones found in the cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// From the request to its beginning, in seconds.
    pub queue_time: Histogram,
    /// From the request to its first token, in seconds.
    pub time_to_first_token: Histogram,
    /// From one token of a request to its next one, in seconds.
    pub inter_token: Histogram,
    /// From the request to its end, in seconds.
    pub end_to_end: Histogram,
}

/// How often a time fell where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// Upper bounds of the buckets in seconds; one more bucket takes the rest.
    pub const BOUNDS: [f64; 18] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0,
        120.0, 300.0, 600.0,
    ];

    pub(crate) fn record(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = Self::BOUNDS.partition_point(|&bound| bound < seconds);
        self.counts[bucket] += 1;
        self.sum += seconds;
    }

    /// Times in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// For each bound, how many times were not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let totals = self.counts.iter().scan(0, |total, &count| {
            *total += count;
            Some(*total)
        });
        Self::BOUNDS.into_iter().zip(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let mut histogram = Histogram::default();
        for millis in [1, 2, 3, 1000, 700_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let at = |bound| histogram.cumulative().find(|b| b.0 == bound).unwrap().1;
        assert_eq!(
            [0.001, 0.0025, 0.005, 0.5, 1.0, 600.0].map(at),
            [1, 2, 3, 3, 4, 4]
        );
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum() - 701.006).abs() < 1e-9);
    }
}
