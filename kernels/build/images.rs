//! Every `ops/*/*.cu`, compiled for every architecture, and the table that embeds the images.
//!
//! `ONWARD_CUDA_ARCHS` chooses the architectures. Each gets a cubin; the lowest also gets PTX,
//! which a GPU newer than all of them can run. An image is compiled again only if its key
//! changed: the compiler, its arguments, the source or any header.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::abi::LAYOUT;
use crate::nvcc::{self, Arch, Kind};
use crate::tasks::{files, make_once, read_all, run_all, write_if_changed};
use crate::toolchain::Toolchain;

/// Ampere, Ada, Hopper and Blackwell, in data centres and desktops.
const DEFAULT_ARCHS: &str = "80 86 89 90a 100a 120a";

/// One image to make.
struct Job {
    module: String,
    arch: Arch,
    kind: Kind,
    source: PathBuf,
    output: PathBuf,
    arguments: Vec<String>,
    key: String,
}

/// Compiles what changed and writes `images.rs`.
///
/// # Errors
///
/// One sentence: a bad `ONWARD_CUDA_ARCHS`, a file that cannot be read or written, or the first
/// error of nvcc.
pub(crate) fn build(toolchain: &Toolchain, out_dir: &Path) -> Result<(), String> {
    let archs = archs()?;
    let sources = files("ops", "cu")?;
    let mut headers = files("device", "cuh")?;
    headers.extend(files("ops", "cuh")?);
    headers.extend(files("ops", "h")?);
    headers.extend(files("device", "h")?);
    headers.push(PathBuf::from("abi.h"));
    // Folders too, so that a new file is seen.
    for path in sources.iter().chain(&headers) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    for path in ["device", "ops", "build"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let jobs = plan(toolchain, &archs, &sources, &headers, out_dir)?;
    run_all(&jobs, |job| compile(toolchain, job))?;
    write_if_changed(
        &out_dir.join("images.rs"),
        table(toolchain, &jobs).as_bytes(),
    )
}

/// The architectures to compile for, lowest first.
fn archs() -> Result<Vec<Arch>, String> {
    println!("cargo::rerun-if-env-changed=ONWARD_CUDA_ARCHS");
    let text = std::env::var("ONWARD_CUDA_ARCHS").unwrap_or_else(|_| DEFAULT_ARCHS.to_owned());
    let mut archs = text
        .split_whitespace()
        .map(|word| {
            Arch::parse(word).ok_or_else(|| {
                format!(
                    "ONWARD_CUDA_ARCHS holds {word:?}, which is no architecture such as 80 or 90a"
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    archs.sort_by_key(|arch| (arch.major, arch.minor, arch.suffix));
    archs.dedup();
    if archs.is_empty() {
        return Err("ONWARD_CUDA_ARCHS names no architecture".to_owned());
    }
    Ok(archs)
}

fn plan(
    toolchain: &Toolchain,
    archs: &[Arch],
    sources: &[PathBuf],
    headers: &[PathBuf],
    out_dir: &Path,
) -> Result<Vec<Job>, String> {
    let folder = out_dir.join("images");
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let headers = read_all(headers)?;
    let mut targets: Vec<(Arch, Kind)> = archs.iter().map(|a| (a.clone(), Kind::Cubin)).collect();
    // PTX with a suffix would run on no newer GPU.
    let lowest = Arch {
        suffix: None,
        ..archs[0].clone()
    };
    targets.push((lowest, Kind::Ptx));
    let mut jobs = Vec::new();
    for source in sources {
        let module = source.file_stem().unwrap_or_default().to_string_lossy();
        let text = read_all(std::slice::from_ref(source))?;
        for (arch, kind) in &targets {
            let extension = if *kind == Kind::Ptx { "ptx" } else { "cubin" };
            let arguments = nvcc::arguments(toolchain, arch, *kind, &out_dir.join(LAYOUT));
            let mut hasher = DefaultHasher::new();
            (toolchain.version, &toolchain.nvcc, &arguments).hash(&mut hasher);
            (&headers, &text).hash(&mut hasher);
            jobs.push(Job {
                module: module.to_string(),
                arch: arch.clone(),
                kind: *kind,
                source: source.clone(),
                output: folder.join(format!("{module}.sm_{arch}.{extension}")),
                arguments,
                key: format!("{:016x}", hasher.finish()),
            });
        }
    }
    Ok(jobs)
}

fn compile(toolchain: &Toolchain, job: &Job) -> Result<(), String> {
    make_once(&job.output, &job.key, || {
        nvcc::compile(&toolchain.nvcc, &job.arguments, &job.source, &job.output)?;
        if job.kind == Kind::Ptx {
            // The driver reads PTX as a C string.
            let mut text = read_all(std::slice::from_ref(&job.output))?.concat();
            text.push(0);
            write_if_changed(&job.output, &text)?;
        }
        Ok(())
    })
}

/// `images.rs`: the toolkit's version and, for each module, its images.
fn table(toolchain: &Toolchain, jobs: &[Job]) -> String {
    let (major, minor) = toolchain.version;
    let mut text = format!(
        "pub(crate) const TOOLKIT: (u32, u32) = ({major}, {minor});\n\
         pub(crate) static MODULES: &[Module] = &[\n"
    );
    for module in jobs.chunk_by(|a, b| a.source == b.source) {
        let _ = writeln!(
            text,
            "    Module {{ name: {:?}, images: &[",
            module[0].module
        );
        for job in module {
            let kind = if job.kind == Kind::Ptx {
                "Ptx"
            } else {
                "Cubin"
            };
            let Arch {
                major,
                minor,
                suffix,
            } = &job.arch;
            let _ = writeln!(
                text,
                "        Image {{ arch: Arch {{ major: {major}, minor: {minor}, suffix: {suffix:?} }}, \
                 kind: Kind::{kind}, bytes: include_bytes!({:?}) }},",
                job.output
            );
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    text
}
