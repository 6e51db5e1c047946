//! Measurements, and evidence about speed that needs no GPU.

#[cfg(feature = "cuda")]
pub mod evidence;
pub mod load;
