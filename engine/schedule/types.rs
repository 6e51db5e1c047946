//! What goes into the scheduler and what comes out of it.

use std::ops::Range;
use std::time::Duration;

/// How much is done at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences that are served at the same time.
    pub n_slots: usize,
    /// Tokens of a pass.
    pub max_rows: usize,
    /// Prompt tokens of a pass in which other sequences write: what a long prompt may cost them
    /// between two of their tokens.
    pub beside_decode: usize,
    /// Positions of a sequence.
    pub n_ctx: usize,
    /// Requests that may wait for a slot; a further one is refused.
    pub max_queue: usize,
    /// Steps that may be under way: asked for, and their tokens not taken yet.
    pub run_ahead: usize,
}

/// A request's number: they go up in order of arrival and are never used twice.
pub type Id = u64;

/// A request as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// The most tokens to draw. None at all is possible: the prompt is only run.
    pub max_tokens: usize,
    /// Prompt positions from this one on are computed even where the cache has them, since what
    /// the model says there is wanted. `usize::MAX` for none but the last, as is usual.
    pub compute_from: usize,
    /// Whether it goes on by passes alone, and whoever is served beside it, since what it may draw
    /// next depends on what it drew.
    pub by_pass: bool,
    /// The longest time until it is first served.
    pub queue_timeout: Option<Duration>,
    /// The longest time until it is done.
    pub timeout: Option<Duration>,
}

impl Arrival {
    /// A request without time limits.
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            compute_from: usize::MAX,
            by_pass: false,
            queue_timeout: None,
            timeout: None,
        }
    }
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is nothing to run.
    #[error("the prompt is empty")]
    Empty,
    /// The prompt is longer than a sequence can become.
    #[error("the prompt has {n_prompt} tokens, but a sequence has at most {n_ctx} positions")]
    TooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Positions of a sequence, which has to fit into the cache too.
        n_ctx: usize,
    },
    /// Too many wait already.
    #[error("{waiting} requests are waiting already")]
    QueueFull {
        /// How many.
        waiting: usize,
        /// When there may be room.
        retry_after: Duration,
    },
}

/// What is to be done next, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Requests whose time is over; they are gone.
    pub expired: Vec<Expired>,
    /// Requests that have lost slot and pages to earlier ones, and wait to be admitted again.
    pub preempted: Vec<Id>,
    /// Requests that have got a slot.
    pub admitted: Vec<Admitted>,
    /// Pages whose content is to be copied in every layer before the work. None is both read and
    /// written, so they may be copied in any order.
    pub copies: Vec<PageCopy>,
    /// What the device is to do.
    pub work: Work,
}

/// A request that was not served in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Which.
    pub id: Id,
    /// Whether it was never admitted.
    pub in_queue: bool,
}

/// A request that is served from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Which.
    pub id: Id,
    /// Its slot in the decoder until it is preempted or done.
    pub slot: usize,
    /// How many of its tokens were found in the cache.
    pub cached: usize,
    /// Whether it was served before, and preempted.
    pub is_resumed: bool,
}

/// A page that begins like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCopy {
    /// The page to be read.
    pub from: u32,
    /// The page to be written.
    pub to: u32,
}

/// Work for the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Work {
    /// There is nothing to do until a request arrives.
    #[default]
    Idle,
    /// One forward pass over these pieces, in order, and a draw behind those that say so. Then
    /// [`ran`](super::Scheduler::ran), and [`drew`](super::Scheduler::drew) for each token.
    Pass(Vec<Piece>),
    /// Ask the decoder for steps, and take the tokens of one.
    Steps {
        /// Sequences that the steps run, by row. One that is full or finished by the device draws
        /// nothing more.
        rows: Vec<Row>,
        /// Steps to ask for now, beside those under way; possibly none. Their pages are there.
        n: usize,
        /// Whether the decoder has to be told of the rows. Otherwise they are those of before, and
        /// have at most got more pages.
        is_new: bool,
    },
    /// Halt the decoder, take the tokens of the steps that are under way all the same, say
    /// [`drained`](super::Scheduler::drained), and plan again.
    Drain,
}

/// Some tokens of a sequence in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose.
    pub id: Id,
    /// Its slot.
    pub slot: usize,
    /// Which of its [`tokens`](super::Scheduler::tokens), by position.
    pub tokens: Range<usize>,
    /// Whether the next token is drawn behind the last of them.
    pub draws: bool,
    /// Whether that is the first since it was admitted: its slot has to be given the sampling
    /// parameters before the draw.
    pub starts: bool,
}

/// A sequence in the decoder's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub id: Id,
    /// Its slot.
    pub slot: usize,
}

/// How things stand, and what has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests with a slot.
    pub running: usize,
    /// Requests without one.
    pub waiting: usize,
    /// Pages in all.
    pub pages: usize,
    /// Pages of requests with a slot.
    pub pages_held: usize,
    /// Pages of nobody that are kept, since they may be wanted again.
    pub pages_cached: usize,
    /// Times that a request lost its slot.
    pub preemptions: u64,
    /// Pages that were forgotten for others.
    pub evictions: u64,
    /// Prompt tokens of the requests that were admitted.
    pub prompt_tokens: u64,
    /// Of those, the ones that did not have to be computed.
    pub hit_tokens: u64,
    /// Tokens that were run in passes.
    pub pass_tokens: u64,
    /// The time from one departure to the next, of late: when there may be room in a full queue.
    pub departure_interval: Duration,
}
