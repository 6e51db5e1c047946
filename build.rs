//! Compiles the CUDA kernels.
fn main() {}
