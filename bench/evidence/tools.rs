//! NVIDIA's disassembler and resource reader: where they are, and one run of each on a cubin.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where `make toolchain` installs them.
const INSTALLED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/toolchain/inspect/nvidia/cu13/bin"
);

/// The two programs.
#[derive(Clone, Debug)]
pub struct Tools {
    nvdisasm: PathBuf,
    cuobjdump: PathBuf,
}

/// What a kernel takes, by the compiler's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack: spilled registers, and arrays that did not fit in registers.
    pub stack: u32,
    /// Bytes of a block's static shared memory, with what the system keeps where the file counts
    /// it in.
    pub shared: u32,
}

impl Tools {
    /// Looks beside the nvcc that the environment names, on the path, and in `target/toolchain`.
    ///
    /// # Errors
    /// One of them is nowhere.
    pub fn find() -> Result<Self> {
        Ok(Self {
            nvdisasm: find("nvdisasm")?,
            cuobjdump: find("cuobjdump")?,
        })
    }

    /// The listing of a cubin with all its sections.
    ///
    /// # Errors
    /// The disassembler does not run or does not know the file.
    pub fn disassemble(&self, cubin: &Path) -> Result<String> {
        output(&self.nvdisasm, &[], cubin)
    }

    /// What each kernel of a cubin takes.
    ///
    /// # Errors
    /// The reader does not run, or prints something else.
    pub fn resources(&self, cubin: &Path) -> Result<HashMap<String, Resources>> {
        parse_resources(&output(&self.cuobjdump, &["-res-usage"], cubin)?)
    }
}

fn find(program: &str) -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    let beside_nvcc = variable("NVCC")
        .and_then(|nvcc| Path::new(&nvcc).parent().map(Path::to_owned))
        .into_iter();
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let path = env::var_os("PATH").unwrap_or_default();
    beside_nvcc
        .chain(homes.map(|home| Path::new(&home).join("bin")))
        .chain(env::split_paths(&path))
        .chain([PathBuf::from(INSTALLED)])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("there is no {program}: run `make toolchain` to get one"))
}

fn output(program: &Path, arguments: &[&str], file: &Path) -> Result<String> {
    let run = Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
        .with_context(|| format!("{} does not run", program.display()))?;
    if !run.status.success() {
        bail!(
            "{} cannot read {}: {}",
            program.display(),
            file.display(),
            String::from_utf8_lossy(&run.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&run.stdout).into_owned())
}

/// Pairs of lines: ` Function NAME:` and `  REG:27 STACK:0 SHARED:1152 LOCAL:0 …`.
fn parse_resources(text: &str) -> Result<HashMap<String, Resources>> {
    let mut found = HashMap::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("Function ") else {
            continue;
        };
        let usage = lines.next().unwrap_or_default();
        let read = |key: &str| -> Result<u32> {
            usage
                .split_whitespace()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix(':'))
                .with_context(|| format!("cuobjdump gives no {key} of {name} in {usage:?}"))?
                .parse()
                .with_context(|| format!("cuobjdump's {key} of {name} is no number in {usage:?}"))
        };
        let resources = Resources {
            registers: read("REG")?,
            stack: read("STACK")?,
            shared: read("SHARED")?,
        };
        found.insert(name.trim_end_matches(':').to_owned(), resources);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_by_kernel() {
        let text = "
Resource usage:
 Common:
  GLOBAL:0
 Function rms_norm:
  REG:27 STACK:16 SHARED:1152 LOCAL:0 CONSTANT[0]:568 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function gated:
  REG:12 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:392 TEXTURE:0 SURFACE:0 SAMPLER:0
";
        let found = parse_resources(text).expect("read");
        let rms_norm = Resources {
            registers: 27,
            stack: 16,
            shared: 1152,
        };
        assert_eq!((found.len(), found["rms_norm"]), (2, rms_norm));
        assert!(parse_resources(" Function f:\n  REG:x STACK:0 SHARED:0").is_err());
        assert!(parse_resources(" Function f:\n").is_err());
    }
}
