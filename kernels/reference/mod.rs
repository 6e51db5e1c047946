//! The reference backend: plain f32 loops.

/// The truth the other backends are judged by.
pub struct Reference {}
