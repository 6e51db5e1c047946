//! What may be drawn next: grammars, and the end of a thought.

mod grammar;
mod steering;

pub use grammar::Constraint;
pub(crate) use grammar::{Grammars, Guide};
pub(crate) use steering::Steering;
pub use steering::Thinking;
