//! The operations, one folder each.

pub mod attention;
pub mod embed;
pub mod gated;
pub mod logits;
pub mod matmul;
pub mod rms_norm;
pub mod rope_append;
pub mod sample;
