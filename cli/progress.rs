//! Progress bars on stderr, for work that turns out to take a while.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::colour_wanted;

/// Shorter work shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes, shown in MB.
    Bytes,
    /// Tokens.
    Tokens,
    /// Requests.
    Requests,
}

/// A bar that appears after half a second, if stderr is a terminal; it vanishes when dropped.
pub(crate) struct Progress {
    what: &'static str,
    unit: Unit,
    started: Instant,
    shown: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar for `what`, which is to begin now.
    pub(crate) fn new(what: &'static str, unit: Unit) -> Self {
        Self {
            what,
            unit,
            started: Instant::now(),
            shown: io::stderr().is_terminal(),
            bar: None,
        }
    }

    /// Notes that `done` of `total` are done.
    pub(crate) fn set(&mut self, done: u64, total: u64) {
        if !self.shown || (self.bar.is_none() && self.started.elapsed() < PATIENCE) {
            return;
        }
        let (what, unit) = (self.what, self.unit);
        let bar = self.bar.get_or_insert_with(|| make_bar(what, unit, total));
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn make_bar(what: &'static str, unit: Unit, total: u64) -> ProgressBar {
    let counts = match unit {
        Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes}",
        Unit::Requests => "{pos}/{len} requests, {per_sec}, {eta} left",
        Unit::Tokens => "{pos}/{len} tokens, {per_sec}, {eta} left",
    };
    let bar = if colour_wanted(true) {
        "{bar:32.cyan}"
    } else {
        "{bar:32}"
    };
    let bar_style = ProgressStyle::with_template(&format!("{{msg}} {bar} {counts}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
        .with_style(bar_style)
        .with_message(what)
}
