//! What a CUDA source is made of: itself and the project's headers that it includes, directly or
//! through others. So an image is compiled again only if one of these changed.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The project's files that `source` consists of, itself first. A quoted include is looked for
/// beside the file that names it, then in `folders`; angle brackets are the toolkit's own.
///
/// # Errors
///
/// A file that cannot be read, or an include that is nowhere.
pub(crate) fn closure(source: &Path, folders: &[&Path]) -> Result<Vec<(PathBuf, String)>, String> {
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![source.to_owned()];
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        for name in quoted(&text) {
            open.push(resolve(&path, name, folders)?);
        }
        found.push((path, text));
    }
    Ok(found)
}

/// Refuses a kernel that includes the collection of all parameters: an edit of any operation's
/// would have it compiled again.
///
/// # Errors
///
/// The source, where `abi.h` is among the files that it consists of.
pub(crate) fn no_collection(source: &Path, files: &[(PathBuf, String)]) -> Result<(), String> {
    if files.iter().any(|(path, _)| path.ends_with("abi.h")) {
        return Err(format!(
            "{} includes abi.h, the parameters of all kernels, instead of its own params.h",
            source.display()
        ));
    }
    Ok(())
}

/// The names in lines like `#include "device/kernel.cuh"`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let directive = line.trim_start().strip_prefix('#')?.trim_start();
        let name = directive.strip_prefix("include")?.trim_start();
        name.strip_prefix('"')?
            .split_once('"')
            .map(|(name, _)| name)
    })
}

fn resolve(from: &Path, name: &str, folders: &[&Path]) -> Result<PathBuf, String> {
    let beside = from.parent().unwrap_or(Path::new(""));
    [beside]
        .iter()
        .chain(folders)
        .map(|folder| tidy(&folder.join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{} includes {name:?}, which is nowhere", from.display()))
}

/// `./abi.h` and `abi.h` are one file.
fn tidy(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, std::path::Component::CurDir))
        .collect()
}

/// The architectures that a source is for, where its first line restricts them:
/// `// architectures: 90a`.
pub(crate) fn architectures(text: &str) -> Option<Vec<&str>> {
    let list = text.lines().next()?.strip_prefix("// architectures:")?;
    Some(list.split_whitespace().collect())
}
