//! Model files, weights, forward pass.

pub mod formats;
