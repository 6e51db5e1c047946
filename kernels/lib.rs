//! Every operation a language model is made of, each told in one place: formula, arguments,
//! reference, fast CPU path and CUDA kernel (`ops/<op>/`).
//!
//! A model is run by a [`Backend`]: [`Reference`] (plain f32 loops, the truth the others are
//! judged by), [`Cpu`] (threads and SIMD) and, with the `cuda` feature, a GPU. The engine's
//! forward pass is written once against the trait.

pub mod backend;
pub mod cpu;
pub mod cuda;
pub mod decode;
pub mod error;
pub mod memory;
pub mod ops;
pub mod quant;
pub mod reference;

pub use backend::{
    Backend, Batch, KvRounding, KvShape, MatrixSource, PAGE_TOKENS, RouteShape, Span,
};
pub use cpu::Cpu;
pub use error::{Error, Result};
pub use quant::Format;
pub use reference::Reference;
