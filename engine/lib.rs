//! The engine: model files → weights → forward pass → tokens.
//!
//! [`Engine::load`] puts a model on a [`onward_kernels::Backend`]; [`Engine::generate`] serves a
//! [`Request`] and tells of each [`Event`]. The rooms: [`formats`] reads files, [`model`] knows
//! what a model is, [`schedule`] decides who is served when, `kv` knows what the pages of the cache
//! hold, `decode` turns logits into text.

pub mod api;
mod decode;
mod error;
pub mod formats;
mod kv;
pub mod model;
mod sample;
pub mod schedule;

pub use api::{
    Completion, Ended, Engine, EngineOptions, Event, FinishReason, Health, Histogram, Loading,
    Metrics, ModelInfo, Refusal, Request, RequestId, Service, ServiceOptions, Ticket, Token,
    TopToken, Update, memory_plan,
};
pub use error::{Error, Result};
pub use model::ModelConfig;
pub use sample::{Constraint, Thinking};
