//! What an embedder sees: an [`Engine`] takes [`Request`]s and tells of [`Event`]s.

mod engine;
mod load;
mod memory;
mod request;

pub use engine::Engine;
pub use load::{EngineOptions, Loading};
pub use memory::memory_plan;
pub use request::{Completion, Event, FinishReason, Request, Token, TopToken};
