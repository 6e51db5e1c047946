//! One run of nvcc: a kernel source and a GPU architecture in, an image out.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::toolchain::Toolchain;

/// A GPU architecture as nvcc's `sm_` names it: `80`, `90a`, `100f`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Arch {
    /// Compute capability, major.
    pub(crate) major: u32,
    /// Compute capability, minor.
    pub(crate) minor: u32,
    /// `a`: this very GPU; `f`: this family; none: also later minors.
    pub(crate) suffix: Option<char>,
}

impl Arch {
    /// Reads `90a`: the last digit is the minor.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let suffix = text.chars().last().filter(char::is_ascii_alphabetic);
        let digits = text.trim_end_matches(['a', 'f']);
        let number: u32 = digits.parse().ok()?;
        let known = suffix.is_none_or(|suffix| "af".contains(suffix));
        let spelled = digits.len() + usize::from(suffix.is_some()) == text.len();
        (known && spelled && (50..1000).contains(&number)).then_some(Self {
            major: number / 10,
            minor: number % 10,
            suffix,
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.major, self.minor)?;
        self.suffix.map_or(Ok(()), |suffix| write!(f, "{suffix}"))
    }
}

/// What an image is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Machine code.
    Cubin,
    /// Text that the driver compiles for a GPU newer than every cubin.
    Ptx,
}

/// The arguments but for files of this build; they are part of an image's key.
pub(crate) fn arguments(toolchain: &Toolchain, arch: &Arch, kind: Kind) -> Vec<String> {
    let (output_kind, target) = match kind {
        Kind::Cubin => ("-cubin", format!("-arch=sm_{arch}")),
        Kind::Ptx => ("-ptx", format!("-arch=compute_{arch}")),
    };
    let mut arguments: Vec<String> = [output_kind, &target, "-O3", "-std=c++17", "-I", "."]
        .map(str::to_owned)
        .to_vec();
    arguments.extend(["--Werror", "all-warnings"].map(str::to_owned));
    // A fused multiply-add is written where it is meant: so the emulated device, which is
    // compiled by another compiler, computes the same bits.
    arguments.push("-fmad=false".to_owned());
    // Only nvcc's front end is used: a host compiler newer than it knows does no harm.
    arguments.push("-allow-unsupported-compiler".to_owned());
    arguments.push("-ccbin".to_owned());
    arguments.push(toolchain.host_cxx.display().to_string());
    if kind == Kind::Cubin {
        // A kernel that spills registers to memory is slow without looking it.
        arguments.extend(["-Xptxas", "--warn-on-spills"].map(str::to_owned));
    }
    if let Some(include) = &toolchain.include {
        arguments.push("-I".to_owned());
        arguments.push(include.display().to_string());
    }
    arguments
}

/// Compiles `source` to `output`; what nvcc warns of is passed on to cargo.
///
/// # Errors
///
/// What nvcc says, or why it did not run.
pub(crate) fn compile(
    nvcc: &Path,
    arguments: &[String],
    source: &Path,
    output: &Path,
) -> Result<(), String> {
    let run = Command::new(nvcc)
        .args(arguments)
        .arg(source)
        .arg("-o")
        .arg(output)
        .output()
        .map_err(|error| format!("nvcc at {} does not run: {error}", nvcc.display()))?;
    let said = String::from_utf8_lossy(&run.stderr);
    let lines = said.lines().filter(|line| !line.trim().is_empty());
    if run.status.success() {
        lines.for_each(|line| println!("cargo::warning={line}"));
        return Ok(());
    }
    lines.for_each(|line| eprintln!("{line}"));
    Err(format!(
        "nvcc could not compile kernels/{} ({}): {}",
        source.display(),
        arguments[1],
        said.lines()
            .find(|line| line.contains("error"))
            .unwrap_or(said.trim())
    ))
}
