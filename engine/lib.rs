//! Model files, weights, forward pass.
