//! A request on its way, and who hears of it.

use std::ops::{ControlFlow, Range};

use crate::api::{Event, FinishReason, Update};
use crate::decode::evaluating::OnLogits;
use crate::decode::pooling::Pooling;
use crate::decode::transcript::Transcript;
use crate::error::Error;

/// Hears of a request; breaks to end it.
pub(crate) type Sink<'s> = Box<dyn FnMut(Update) -> ControlFlow<()> + 's>;

/// A request on its way.
pub(super) enum Lane<'m> {
    /// Its tokens are drawn.
    Writing(Box<Writing<'m>>),
    /// Its vector is wanted.
    Pooling(Pooling<'m>),
    /// The logits that follow these positions are wanted.
    Evaluating(Range<usize>, Box<OnLogits<'m>>),
}

impl Lane<'_> {
    /// Tells why it cannot go on.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Pooling(pooling) => pooling.fail(error),
            Self::Writing(writing) => writing.end(|_| Update::Failed(error)),
            // Its caller sees that nothing was told.
            Self::Evaluating(..) => {}
        }
    }
}

/// A request whose tokens are drawn.
pub(super) struct Writing<'m> {
    pub(super) transcript: Transcript<'m>,
    pub(super) sink: Sink<'m>,
}

impl Writing<'_> {
    /// Tells of an event.
    pub(super) fn tell(&mut self, event: Event) {
        if (self.sink)(Update::Event(event)).is_break() {
            self.transcript.finish(FinishReason::Interrupted);
        }
    }

    /// Tells the last there is to tell; whether there is a wish for more does not matter.
    pub(super) fn end(mut self, update: impl FnOnce(Transcript<'_>) -> Update) {
        let _ = (self.sink)(update(self.transcript));
    }
}
