//! From a request to its tokens: forward passes, sampling and stopping.

mod generation;
mod session;
mod stop;

pub(crate) use generation::{Context, Generation};
pub use session::Session;
