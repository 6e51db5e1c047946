//! What builds have in common: files, and work spread over the threads that cargo grants.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

/// The files with this extension in `folder` and the folders in it, sorted.
///
/// # Errors
///
/// The folder and what the system says.
pub(crate) fn files(folder: &str, extension: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of each file.
///
/// # Errors
///
/// The path and what the system says.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// Writes `bytes` unless the file holds them, so that its date tells when it changed.
///
/// # Errors
///
/// The path and what the system says.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Makes `output` by `make` unless it was made under the same key before; the key stands in a
/// file beside it.
///
/// # Errors
///
/// What `make` says, or a key that cannot be written.
pub(crate) fn make_once(
    output: &Path,
    key: &str,
    make: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut stamp = output.to_owned().into_os_string();
    stamp.push(".key");
    let stamp = PathBuf::from(stamp);
    if output.is_file() && fs::read_to_string(&stamp).is_ok_and(|held| held == key) {
        return Ok(());
    }
    make()?;
    write_if_changed(&stamp, key.as_bytes())
}

/// Runs the jobs on as many threads as cargo grants, and stops at the first error.
///
/// # Errors
///
/// The first error of a job.
pub(crate) fn run_all<J: Sync>(
    jobs: &[J],
    run: impl Fn(&J) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let n_threads = std::env::var("NUM_JOBS")
        .ok()
        .and_then(|jobs| jobs.parse::<usize>().ok())
        .unwrap_or(1)
        .clamp(1, 64);
    let queue = Mutex::new(jobs.iter());
    let next = || queue.lock().ok().and_then(|mut jobs| jobs.next());
    let work = || {
        while let Some(job) = next() {
            run(job)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err("a thread of the kernel build panicked".to_owned()))
        })
    })
}
