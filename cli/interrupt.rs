//! Ctrl-C, `SIGTERM` and `SIGHUP`.
//!
//! While a command runs a model it opens a [`Scope`]: the first signal is then noted, and the
//! command stops within a step and prints what it has. A second signal, or one outside any
//! scope, ends the process at once, whatever it waits for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context;

use crate::output;

/// What the shell sees of a command that the user broke off: 128 + `SIGINT`.
pub(crate) const EXIT_CODE: u8 = 130;

/// A step that takes longer is spoken of.
const PATIENCE: Duration = Duration::from_secs(2);

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
const INTERRUPTED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(IDLE);

/// Takes the signals over. To be called once.
pub(crate) fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        let noted =
            STATE.compare_exchange(RUNNING, INTERRUPTED, Ordering::Relaxed, Ordering::Relaxed);
        if noted.is_err() {
            end();
        }
        std::thread::spawn(|| {
            std::thread::sleep(PATIENCE);
            if STATE.load(Ordering::Relaxed) == INTERRUPTED {
                output::note("still waiting for the work under way; Ctrl-C again ends it here");
            }
        });
    })
    .context("cannot take over Ctrl-C")
}

/// Ends the process and nothing else: what libraries do at an exit may wait for a device that
/// never answers.
fn end() -> ! {
    // SAFETY: returns to nobody, so nothing can be left in a state that somebody sees.
    unsafe { libc::_exit(i32::from(EXIT_CODE)) }
}

/// The time during which a first signal is noted instead of ending the process.
pub(crate) struct Scope(());

impl Scope {
    /// Opens the scope; there is one at a time.
    pub(crate) fn open() -> Self {
        STATE.store(RUNNING, Ordering::Relaxed);
        Self(())
    }

    /// Whether a signal has come since the scope was opened.
    pub(crate) fn interrupted(&self) -> bool {
        STATE.load(Ordering::Relaxed) == INTERRUPTED
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        STATE.store(IDLE, Ordering::Relaxed);
    }
}
