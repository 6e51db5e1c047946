//! Which requests are served when, and with which pages of the KV cache.
//!
//! Pure logic: it knows no device, no clock and no thread. A [`Scheduler`] says what is to be done
//! next and is told what came of it:
//!
//! ```text
//! submit ──► waiting ──admitted──► running: reads its prompt, then writes ──finish──► gone
//!               ▲                     │
//!               └─────preempted───────┘
//!
//! loop { plan ──► Pass  → run it, ran, draw, drew for each token
//!                 Steps → ask for n more, asked; take the tokens of one: drew for each, stepped
//!                 Drain → halt, take what comes all the same: drew for each, drained
//!                 Idle  → wait for a request }
//! ```
//!
//! - **Order.** Requests are admitted in the order of arrival, when there are a slot and pages for
//!   all their tokens and one more; under pressure the latest of those running loses its slot first,
//!   and keeps its place in the order. So those that run always arrived before those that wait, and
//!   the oldest of all is always running and in every pass or step. That bounds every wait: a
//!   request is admitted at the latest when all before it are gone, and the oldest is gone after as
//!   many passes and steps as it has tokens.
//! - **Passes.** While a prompt is read, each pass has a row for every sequence that writes, then
//!   pieces of prompts in order of arrival: up to [`Limits::max_rows`] in all, and at most
//!   [`Limits::beside_decode`] prompt tokens where others write.
//!   A request whose draws depend on what it drew goes on by passes, and all others beside it.
//! - **Steps.** Once all write, the decoder goes on by itself. Pages for steps are reserved before
//!   they are asked for. Whatever changes the rows waits until none is under way.
//! - **Sharing.** Full pages are found by all tokens up to their end and shared. A page that is
//!   only begun alike is copied, or taken over where nobody holds it and nothing is lost. So a request that
//!   goes on from any position of an earlier one computes what is new. Requests that arrive
//!   together with one prompt compute its full pages once: the later ones wait for the first one's.
//! - **Preemption.** A preempted sequence keeps its tokens; its pages become cached ones. When it is
//!   admitted again, what was lost of them is computed again. Since bits do not depend on how a text
//!   is cut into passes, it goes on as if nothing had been.

mod admission;
mod scheduler;
mod sequence;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod types;
mod work;

pub use scheduler::Scheduler;
pub use types::{
    Admitted, Arrival, Counters, Expired, Id, Limits, PageCopy, Piece, Plan, Refused, Row, Work,
};
