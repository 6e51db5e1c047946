//! Evidence that needs no GPU: what the machine code of every kernel says about its speed.
//!
//! The compiled kernels are read with NVIDIA's `cuobjdump` and `nvdisasm`: registers, spills, shared
//! memory, resident warps, the instructions a kernel is about, and how many warp-instructions
//! the inner loop of a decode matmul takes for 32 weights. What a block gets of shared memory beside
//! that is the launch's to say ([`cuda::shared_memory`]). `make evidence` writes the table to
//! `kernels/EVIDENCE.md`; a test makes it again and holds it to [`rules`].

pub mod budget;
pub mod occupancy;
pub mod row;
pub mod rules;
pub mod sass;
pub mod table;
pub mod tools;

use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow};
use onward_kernels::cuda::{self, KernelImage};

use row::{DynamicShared, Row};
use tools::Tools;

/// The compiler that the committed table is made with: that of `make toolchain`.
pub const PINNED_COMPILER: &str = "V13.0.88";

/// The architectures of the committed table: those of the default build.
pub const DEFAULT_ARCHS: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"];

/// All that the embedded kernels say.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Sorted by module, kernel and architecture.
    pub rows: Vec<Row>,
    /// The compiler's name of itself.
    pub compiler: String,
}

impl Evidence {
    /// Whether the committed table is of this build: its compiler and its architectures.
    pub fn is_comparable(&self) -> bool {
        let is_default = |row: &Row| DEFAULT_ARCHS.contains(&row.arch.as_str());
        self.compiler.contains(PINNED_COMPILER)
            && self.has_all_architectures()
            && self.rows.iter().all(is_default)
    }

    /// Whether every kernel can be among the rows: those for one architecture are.
    pub fn has_all_architectures(&self) -> bool {
        DEFAULT_ARCHS
            .iter()
            .all(|arch| self.rows.iter().any(|row| row.arch == *arch))
    }
}

/// Reads every cubin of this program.
///
/// # Errors
/// The tools are missing or do not understand a cubin.
pub fn gather() -> Result<Evidence> {
    let cubins: Vec<KernelImage> = cuda::images()
        .into_iter()
        .filter(KernelImage::is_machine_code)
        .collect();
    gather_from(&cubins)
}

/// Reads these cubins, on all cores.
///
/// # Errors
/// As [`gather`].
pub fn gather_from(cubins: &[KernelImage]) -> Result<Evidence> {
    let tools = Tools::find()?;
    let folder = tempfile::tempdir().context("no folder for temporary files")?;
    let queue = Mutex::new(cubins.iter().enumerate());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let work = || -> Result<Vec<(String, Vec<Row>)>> {
        let mut done = Vec::new();
        while let Some((index, cubin)) = next() {
            // A short name of its own: images of several architectures share theirs.
            let path = folder.path().join(format!("{index}.cubin"));
            std::fs::write(&path, cubin.bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
            let rows = read(&tools, cubin, &path)
                .with_context(|| format!("the kernels of {} for {}", cubin.module, cubin.target))?;
            done.push(rows);
        }
        Ok(done)
    };
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let parts = thread::scope(|scope| {
        let workers: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a reader panicked")))
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let mut evidence = Evidence {
        rows: Vec::new(),
        compiler: String::new(),
    };
    for (compiler, rows) in parts.into_iter().flatten() {
        evidence.compiler = compiler;
        evidence.rows.extend(rows);
    }
    let order = |row: &Row| {
        let capability = occupancy::capability(&row.arch);
        (row.module.clone(), row.kernel.clone(), capability)
    };
    evidence.rows.sort_by_key(order);
    Ok(evidence)
}

fn read(tools: &Tools, cubin: &KernelImage, path: &std::path::Path) -> Result<(String, Vec<Row>)> {
    let resources = tools.resources(path)?;
    let listing = sass::parse(&tools.disassemble(path)?);
    let rows = resources
        .into_iter()
        .map(|(name, resources)| {
            let kernel = listing
                .kernels
                .get(&name)
                .with_context(|| format!("nvdisasm lists no code of {name}"))?;
            let names = (cubin.module, name.as_str(), cubin.target.as_str());
            Ok(Row::new(names, kernel, resources, dynamic_shared(&name)))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((listing.compiler, rows))
}

/// What the launches of a kernel take of dynamic shared memory, as their own code says it.
fn dynamic_shared(kernel: &str) -> DynamicShared {
    let mut all = cuda::shared_memory().iter();
    all.find(|known| known.kernel == kernel)
        .map(|known| DynamicShared {
            typical: known.typical,
            largest: known.largest,
        })
        .unwrap_or_default()
}
