//! What the records of a load say.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::Record;
use super::client::Outcome;
use super::workload::Fate;

/// Percentiles of times in milliseconds, by the nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are not above.
    pub p50: f64,
    /// Nine of ten are not above.
    pub p90: f64,
    /// 99 of a hundred are not above.
    pub p99: f64,
    /// None is above.
    pub max: f64,
}

impl Percentiles {
    /// Of these times.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let rank = (share * times.len() as f64).ceil() as usize;
            let time = times.get(rank.clamp(1, times.len().max(1)) - 1);
            time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// What became of a load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Requests that came to their ends.
    pub finished: usize,
    /// Requests whose clients broke off, as they were to.
    pub dropped: usize,
    /// Malformed requests that were refused as such, with 400.
    pub malformed: usize,
    /// Requests that were refused though nothing was wrong with them.
    pub refused: usize,
    /// Malformed requests that were not refused with 400.
    pub accepted: usize,
    /// Requests that were lost, with what was said.
    pub lost: Vec<String>,
    /// Requests whose text is not what it is alone.
    pub differing: usize,
    /// Pieces of text a second, of all streams together.
    pub pieces_per_second: f64,
    /// From asking to the first piece of text.
    pub time_to_first: Percentiles,
    /// From one piece of a stream to the next.
    pub inter_token: Percentiles,
    /// From asking to the end.
    pub end_to_end: Percentiles,
}

impl Report {
    /// Of the records of a load; `alone` has the texts that are to be expected, where they are.
    pub fn of(records: &[Record], alone: &HashMap<usize, String>) -> Self {
        let mut report = Self::default();
        let (mut first, mut gaps, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let (mut n_pieces, mut last) = (0, Duration::ZERO);
        for record in records {
            let expected = alone.get(&record.job.prompt);
            match (&record.outcome, record.job.fate) {
                (Outcome::Finished { text, moments }, Fate::Whole | Fate::Dropped(_)) => {
                    report.finished += 1;
                    report.differing += usize::from(expected.is_some_and(|alone| alone != text));
                    first.extend(moments.pieces.first());
                    gaps.extend(moments.pieces.windows(2).map(|pair| pair[1] - pair[0]));
                    ends.push(moments.end);
                    n_pieces += moments.pieces.len();
                    last = last.max(record.asked + moments.end);
                }
                (Outcome::Dropped { text }, _) => {
                    report.dropped += 1;
                    let differs = expected.is_some_and(|alone| !alone.starts_with(text));
                    report.differing += usize::from(differs);
                }
                (Outcome::Refused(400), Fate::Malformed) => report.malformed += 1,
                (_, Fate::Malformed) => report.accepted += 1,
                (Outcome::Refused(_), _) => report.refused += 1,
                (Outcome::Lost(why), _) => report.lost.push(why.clone()),
            }
        }
        report.pieces_per_second = match last.as_secs_f64() {
            0.0 => 0.0,
            seconds => n_pieces as f64 / seconds,
        };
        report.time_to_first = Percentiles::of(first);
        report.inter_token = Percentiles::of(gaps);
        report.end_to_end = Percentiles::of(ends);
        report
    }

    /// Whether nothing was lost, mixed up or wrongly refused.
    pub fn is_sound(&self) -> bool {
        self.lost.is_empty() && self.refused + self.accepted + self.differing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Job, Moments};

    fn millis(values: &[u64]) -> Vec<Duration> {
        values.iter().map(|&ms| Duration::from_millis(ms)).collect()
    }

    fn record(prompt: usize, fate: Fate, outcome: Outcome) -> Record {
        let body = serde_json::Value::Null;
        Record {
            job: Job { prompt, body, fate },
            outcome,
            asked: Duration::from_secs(1),
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = (1..=200).rev().collect::<Vec<_>>();
        let percentiles = Percentiles::of(millis(&times));
        let Percentiles { p50, p90, p99, max } = percentiles;
        assert_eq!([p50, p90, p99, max], [100.0, 180.0, 198.0, 200.0]);
        assert_eq!(Percentiles::of(millis(&[7])).p99, 7.0);
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }

    #[test]
    fn every_fault_of_a_server_shows() {
        let alone = HashMap::from([(0, "abc".to_owned())]);
        let finished = |text: &str| Outcome::Finished {
            text: text.to_owned(),
            moments: Moments {
                pieces: millis(&[100, 150, 250]),
                end: Duration::from_millis(300),
            },
        };
        let dropped = |text: &str| Outcome::Dropped {
            text: text.to_owned(),
        };
        let good = [
            record(0, Fate::Whole, finished("abc")),
            record(0, Fate::Dropped(2), dropped("ab")),
            record(0, Fate::Malformed, Outcome::Refused(400)),
        ];
        let report = Report::of(&good, &alone);
        assert!(report.is_sound());
        assert_eq!(
            (report.finished, report.dropped, report.malformed),
            (1, 1, 1)
        );
        assert_eq!(report.time_to_first.p50, 100.0);
        assert_eq!(
            (report.inter_token.p50, report.inter_token.max),
            (50.0, 100.0)
        );
        assert!((report.pieces_per_second - 3.0 / 1.3).abs() < 1e-9);
        for bad in [
            record(0, Fate::Whole, finished("abd")),
            record(0, Fate::Dropped(2), dropped("b")),
            record(0, Fate::Malformed, Outcome::Refused(500)),
            record(0, Fate::Malformed, finished("abc")),
            record(0, Fate::Whole, Outcome::Refused(429)),
            record(0, Fate::Whole, Outcome::Lost("reset".to_owned())),
        ] {
            assert!(!Report::of(&[bad], &alone).is_sound());
        }
    }
}
