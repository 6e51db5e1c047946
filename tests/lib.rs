//! Shared helpers of the test suite.

pub mod broken;
pub mod command;
pub mod gguf_file;
pub mod tiny_model;
