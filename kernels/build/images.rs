//! Every `.cu` file of `ops` and `device`, compiled for every architecture, and the table that embeds the images.
//!
//! `ONWARD_CUDA_ARCHS` chooses the architectures. Each gets a cubin; the lowest also gets PTX,
//! which a GPU newer than all of them can run. A source whose first line is
//! `// architectures: 90a` is compiled for these alone, without PTX.
//!
//! Images are kept in `target/kernel-images` under the hash of all that they are made from: the
//! compiler, its arguments, the source and the headers that it includes. All profiles and feature
//! sets share them, and nothing is compiled twice.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::abi::Layout;
use crate::includes;
use crate::nvcc::{self, Arch, Kind};
use crate::tasks::{files, read_all, run_all, write_if_changed};
use crate::toolchain::Toolchain;

/// Ampere, Ada, Hopper and Blackwell, in data centres and desktops.
const DEFAULT_ARCHS: &str = "80 86 89 90a 100a 120a";

/// One image to make.
struct Job {
    module: String,
    arch: Arch,
    kind: Kind,
    source: PathBuf,
    /// Bytes of text, which tell how long it takes.
    size: usize,
    /// Where all builds keep it; its name is its key.
    kept: PathBuf,
    /// Where this build has it.
    output: PathBuf,
    arguments: Vec<String>,
    /// What asserts the layout of its parameters; included ahead of the source.
    layout: PathBuf,
}

/// Compiles what changed and writes `images.rs`.
///
/// # Errors
///
/// One sentence: a bad `ONWARD_CUDA_ARCHS`, a file that cannot be read or written, or the first
/// error of nvcc.
pub(crate) fn build(toolchain: &Toolchain, layout: &Layout, out_dir: &Path) -> Result<(), String> {
    let archs = archs()?;
    // Folders too, so that a new file is seen.
    for folder in ["device", "ops"] {
        println!("cargo::rerun-if-changed={folder}");
        for extension in ["cu", "cuh", "h"] {
            for path in files(folder, extension)? {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    println!("cargo::rerun-if-changed=build");
    let sources = [files("ops", "cu")?, files("device", "cu")?].concat();
    let jobs = plan(toolchain, layout, &archs, &sources, out_dir)?;
    // The longest first: none is left to run alone at the end.
    let mut order: Vec<&Job> = jobs.iter().collect();
    order.sort_by_key(|job| std::cmp::Reverse(job.size));
    run_all(&order, |job| make(toolchain, job))?;
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

/// What to compile a source for.
fn targets(archs: &[Arch], text: &str) -> Vec<(Arch, Kind)> {
    let cubin = |arch: &Arch| (arch.clone(), Kind::Cubin);
    if let Some(only) = includes::architectures(text) {
        let wanted = |arch: &&Arch| only.contains(&arch.to_string().as_str());
        return archs.iter().filter(wanted).map(cubin).collect();
    }
    // PTX with a suffix would run on no newer GPU.
    let lowest = Arch {
        suffix: None,
        ..archs[0].clone()
    };
    let ptx = (lowest, Kind::Ptx);
    archs.iter().map(cubin).chain([ptx]).collect()
}

fn plan(
    toolchain: &Toolchain,
    layout: &Layout,
    archs: &[Arch],
    sources: &[PathBuf],
    out_dir: &Path,
) -> Result<Vec<Job>, String> {
    let folder = out_dir.join("images");
    // <target>/<profile>/build/<package>/out
    let target = out_dir.ancestors().nth(4).unwrap_or(out_dir);
    let kept = target.join("kernel-images");
    for folder in [&folder, &kept] {
        fs::create_dir_all(folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let mut jobs = Vec::new();
    for source in sources {
        let module = source.file_stem().unwrap_or_default().to_string_lossy();
        let texts = includes::closure(source, &[Path::new(".")])?;
        includes::no_collection(source, &texts)?;
        let (assertions, _) = layout.assertions(&texts);
        let layout = folder.join(format!("{module}.layout.h"));
        write_if_changed(&layout, assertions.as_bytes())?;
        for (arch, kind) in targets(archs, &texts[0].1) {
            let extension = if kind == Kind::Ptx { "ptx" } else { "cubin" };
            let arguments = nvcc::arguments(toolchain, &arch, kind);
            let mut hasher = DefaultHasher::new();
            (&toolchain.release, &arguments).hash(&mut hasher);
            (&assertions, &texts).hash(&mut hasher);
            let name = format!("{module}.sm_{arch}");
            jobs.push(Job {
                module: module.to_string(),
                kind,
                source: source.clone(),
                size: texts.iter().map(|(_, text)| text.len()).sum(),
                kept: kept.join(format!("{name}.{:016x}.{extension}", hasher.finish())),
                output: folder.join(format!("{name}.{extension}")),
                arguments,
                layout: layout.clone(),
                arch,
            });
        }
    }
    Ok(jobs)
}

/// Puts an image where this build has it; compiles it if no build did before.
fn make(toolchain: &Toolchain, job: &Job) -> Result<(), String> {
    if !job.kept.is_file() {
        let include = ["-include".to_owned(), job.layout.display().to_string()];
        let arguments = [&job.arguments[..], &include].concat();
        // Another build may be at it too: it appears whole or not at all.
        let fresh = job.kept.with_extension(std::process::id().to_string());
        nvcc::compile(&toolchain.nvcc, &arguments, &job.source, &fresh)?;
        let mut image = read_all(std::slice::from_ref(&fresh))?.concat();
        if job.kind == Kind::Ptx {
            // The driver reads PTX as a C string.
            image.push(0);
        }
        write_if_changed(&fresh, &image)?;
        fs::rename(&fresh, &job.kept)
            .map_err(|error| format!("cannot keep {}: {error}", job.kept.display()))?;
    }
    let image = read_all(std::slice::from_ref(&job.kept))?.concat();
    write_if_changed(&job.output, &image)
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
