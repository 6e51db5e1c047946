//! Compiles the CUDA kernels and turns their parameter structs into Rust types.
//!
//! Runs for the `kernels` crate, in its folder. With the feature `cuda` it writes to `OUT_DIR`:
//!
//! - `abi.rs`: the structs of `kernels/abi.h`, their layout checked by the host's compilers;
//! - `images.rs`: the table of compiled kernels, one image per kernel and GPU architecture.
//!
//! Without the feature there is nothing to build.

#[cfg(feature = "cuda")]
#[path = "kernels/build/abi.rs"]
mod abi;
#[cfg(feature = "cuda")]
#[path = "kernels/build/images.rs"]
mod images;
#[cfg(feature = "cuda")]
#[path = "kernels/build/includes.rs"]
mod includes;
#[cfg(feature = "cuda")]
#[path = "kernels/build/nvcc.rs"]
mod nvcc;
// The emulator's build shares it and uses other parts of it.
#[cfg(feature = "cuda")]
#[allow(dead_code)]
#[path = "kernels/build/tasks.rs"]
mod tasks;
#[cfg(feature = "cuda")]
#[path = "kernels/build/toolchain.rs"]
mod toolchain;

fn main() {
    // Any such line replaces cargo's habit of watching the whole package.
    println!("cargo::rerun-if-changed=../build.rs");
    #[cfg(feature = "cuda")]
    if let Err(message) = build_cuda() {
        println!("cargo::error={message}");
    }
}

/// Everything the feature `cuda` needs; an error is one line for the user.
#[cfg(feature = "cuda")]
fn build_cuda() -> Result<(), String> {
    let out_dir = std::env::var("OUT_DIR").map_err(|_| "OUT_DIR is not set".to_owned())?;
    let out_dir = std::path::Path::new(&out_dir);
    let toolchain = toolchain::find(std::path::Path::new("../target/toolchain"))?;
    let layout = abi::generate(&toolchain, out_dir)?;
    images::build(&toolchain, &layout, out_dir)
}
