//! Where the compilers are: the user's own first, else those of `make toolchain`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compilers of a build.
pub(crate) struct Toolchain {
    /// The CUDA compiler.
    pub(crate) nvcc: PathBuf,
    /// `(major, minor)` of the CUDA toolkit it belongs to.
    pub(crate) version: (u32, u32),
    /// What nvcc says of itself, to the very build.
    pub(crate) release: String,
    /// The headers beside it, where they are not on its own search path.
    pub(crate) include: Option<PathBuf>,
    /// The host's C++ compiler, which nvcc preprocesses with.
    pub(crate) host_cxx: PathBuf,
    /// The folder of libclang, where it is not the system's.
    pub(crate) libclang: Option<PathBuf>,
}

/// Finds all of them. `installed` is where `make toolchain` installs; it does not follow
/// `CARGO_TARGET_DIR`: one toolchain serves every target folder.
///
/// # Errors
///
/// One sentence that names the ways on, where there is no nvcc or it does not run.
pub(crate) fn find(installed: &Path) -> Result<Toolchain, String> {
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH", "LIBCLANG_PATH", "CXX"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let nvcc = find_nvcc(installed)?;
    if nvcc.is_file() {
        println!("cargo::rerun-if-changed={}", nvcc.display());
    }
    let (release, version) = nvcc_version(&nvcc)?;
    let include = nvcc
        .parent()
        .map(|bin| bin.join("../include"))
        .filter(|include| include.join("cuda_runtime.h").is_file());
    let host_cxx = cc::Build::new()
        .cpp(true)
        .try_get_compiler()
        .map_err(|error| format!("nvcc needs a C++ compiler: {error}"))?
        .path()
        .to_owned();
    Ok(Toolchain {
        nvcc,
        version,
        release,
        include,
        host_cxx,
        libclang: find_libclang(installed),
    })
}

/// NVCC, CUDA_HOME, CUDA_PATH, PATH, `target/toolchain`, in this order.
fn find_nvcc(installed: &Path) -> Result<PathBuf, String> {
    if let Some(nvcc) = variable("NVCC") {
        return Ok(PathBuf::from(nvcc));
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let in_homes = homes.map(|home| Path::new(&home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = installed.join("cuda/nvidia/cu13/bin");
    in_homes
        .chain(env::split_paths(&path))
        .chain([installed])
        .map(|folder| folder.join("nvcc"))
        .find(|nvcc| nvcc.is_file())
        .ok_or_else(|| {
            "there is no nvcc to compile the CUDA kernels with: run `make toolchain` to get one, \
             set CUDA_HOME to a CUDA toolkit, or build without CUDA by --no-default-features"
                .to_owned()
        })
}

/// The folder that holds libclang: nothing where LIBCLANG_PATH says it or the system has one.
fn find_libclang(installed: &Path) -> Option<PathBuf> {
    let installed = installed.join("libclang/clang/native");
    (variable("LIBCLANG_PATH").is_none() && installed.is_dir()).then_some(installed)
}

/// What nvcc prints, with `(13, 0)` from "Cuda compilation tools, release 13.0, V13.0.88" in it.
fn nvcc_version(nvcc: &Path) -> Result<(String, (u32, u32)), String> {
    let output = Command::new(nvcc)
        .arg("--version")
        .output()
        .map_err(|error| format!("nvcc at {} does not run: {error}", nvcc.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = parse_release(&text)
        .ok_or_else(|| format!("{} --version names no release of CUDA", nvcc.display()))?;
    Ok((text, version))
}

fn parse_release(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once("release ")?;
    let (major, rest) = rest.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
