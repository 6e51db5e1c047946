//! What an embedder sees: an [`Engine`] takes [`Request`]s and tells of [`Event`]s.

mod engine;
mod info;
mod load;
mod memory;
mod metrics;
mod request;
mod service;

pub use engine::Engine;
pub use info::ModelInfo;
pub use load::{EngineOptions, Loading};
pub use memory::memory_plan;
pub use metrics::{Histogram, Metrics};
pub use request::{Completion, Event, FinishReason, Request, Token, TopToken};
pub use service::{Ended, Health, Refusal, RequestId, Service, ServiceOptions, Ticket, Update};
