//! From a request to its tokens: forward passes, sampling and stopping.

mod batching;
mod evaluating;
mod pooling;
mod stop;
mod transcript;

pub(crate) use batching::Batching;
pub(crate) use evaluating::LOGIT_ROWS;
pub(crate) use pooling::Pooling;
pub(crate) use transcript::Transcript;
