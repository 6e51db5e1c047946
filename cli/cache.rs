//! Where models and history are kept: `$ONWARD_CACHE`, else `$XDG_CACHE_HOME/onward`, else
//! `~/.cache/onward`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The model that is used when none is named.
const DEFAULT_MODEL: &str = "gemma-3-270m-q4_k_m.gguf";

/// The cache folder, if the environment names one; it need not exist.
pub(crate) fn folder() -> Option<PathBuf> {
    let from = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty());
    from("ONWARD_CACHE")
        .map(PathBuf::from)
        .or_else(|| from("XDG_CACHE_HOME").map(|base| Path::new(&base).join("onward")))
        .or_else(|| from("HOME").map(|home| Path::new(&home).join(".cache/onward")))
}

/// The folder of the downloaded models.
pub(crate) fn models_folder() -> Option<PathBuf> {
    folder().map(|folder| folder.join("models"))
}

/// The model files in the cache with their sizes in bytes, by name.
pub(crate) fn models() -> Vec<(PathBuf, u64)> {
    let entries = models_folder().and_then(|folder| std::fs::read_dir(folder).ok());
    let mut found: Vec<_> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let bytes = std::fs::metadata(&path).ok()?.len();
            (path.extension()? == "gguf").then_some((path, bytes))
        })
        .collect();
    found.sort();
    found
}

/// The model to use: `named` where given, else the default model of the cache.
///
/// # Errors
/// If there is nothing at that place, with what to do about it.
pub(crate) fn model_path(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        if !path.exists() {
            bail!("there is no model at {}", path.display());
        }
        return Ok(path.to_owned());
    }
    let path = models_folder()
        .context("no cache folder is known, for HOME is not set: name a model with -m")?
        .join(DEFAULT_MODEL);
    if !path.exists() {
        bail!(
            "the default model is not at {}: get it with `make models`, or name another with -m",
            path.display()
        );
    }
    Ok(path)
}
