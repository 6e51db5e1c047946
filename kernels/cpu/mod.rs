//! The fast CPU backend.

/// The CPU with threads and SIMD.
pub struct Cpu {}
