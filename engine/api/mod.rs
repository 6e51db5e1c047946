//! What an embedder sees: an [`Engine`] takes [`Request`]s and tells of [`Event`]s.

mod engine;
mod info;
mod load;
mod memory;
mod request;
mod service;

pub use engine::Engine;
pub use info::ModelInfo;
pub use load::{EngineOptions, Loading};
pub use memory::memory_plan;
pub use request::{Completion, Event, FinishReason, Request, Token, TopToken};
pub use service::{Health, Metrics, Refusal, RequestId, Service, ServiceOptions, Update};
