//! From a request to its tokens: forward passes, sampling and stopping.

mod generation;
mod rounds;
mod session;
mod stop;

pub(crate) use generation::{Context, Generation};
pub(crate) use rounds::Rounds;
pub use session::Session;
