//! What the kernel build takes an image to be made of: too little and a change goes uncompiled,
//! too much and every change compiles everything.

#[path = "../kernels/build/includes.rs"]
mod includes;

use std::fs;
use std::path::{Path, PathBuf};

/// Writes files into a fresh folder.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn names(root: &Path, source: &str) -> Vec<String> {
    let mut names: Vec<String> = includes::closure(&root.join(source), &[root])
        .expect("a closure")
        .into_iter()
        .map(|(path, _)| {
            path.strip_prefix(root)
                .expect("below")
                .display()
                .to_string()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_source_is_made_of_what_it_includes_and_of_nothing_else() {
    let folder = tree(&[
        (
            "ops/a/a.cu",
            "#include \"device/x.cuh\"\n  # include \"near.cuh\"\n#include <cuda.h>\n",
        ),
        ("ops/a/near.cuh", "#include \"device/x.cuh\"\n"),
        (
            "ops/b/b.cu",
            "// #include \"device/x.cuh\" in a comment\n#include \"ops/a/near.cuh\"\n",
        ),
        ("ops/c/c.cu", "int c;\n"),
        ("device/x.cuh", "#pragma once\n#include \"abi.h\"\n"),
        ("abi.h", "#include \"abi.h\"\n"),
    ]);
    let root = folder.path();
    let expected = ["abi.h", "device/x.cuh", "ops/a/a.cu", "ops/a/near.cuh"];
    assert_eq!(names(root, "ops/a/a.cu"), expected);
    let expected = ["abi.h", "device/x.cuh", "ops/a/near.cuh", "ops/b/b.cu"];
    assert_eq!(names(root, "ops/b/b.cu"), expected);
    assert_eq!(names(root, "ops/c/c.cu"), ["ops/c/c.cu"]);
}

#[test]
fn an_include_that_is_nowhere_is_an_error_that_names_both_files() {
    let folder = tree(&[("a.cu", "#include \"gone.cuh\"\n")]);
    let error = includes::closure(&folder.path().join("a.cu"), &[folder.path()]).unwrap_err();
    assert!(
        error.contains("a.cu") && error.contains("gone.cuh"),
        "{error}"
    );
}

#[test]
fn a_first_line_restricts_the_architectures() {
    assert_eq!(
        includes::architectures("// architectures: 90a 100a\nint x;"),
        Some(vec!["90a", "100a"])
    );
    assert_eq!(
        includes::architectures("int x;\n// architectures: 90a\n"),
        None
    );
    assert_eq!(includes::architectures(""), None);
}

#[test]
fn a_kernel_that_includes_all_parameters_is_refused() {
    let folder = tree(&[
        ("a.cu", "#include \"x.cuh\"\n"),
        ("x.cuh", "#include \"abi.h\"\n"),
        ("b.cu", "#include \"params.h\"\n"),
        ("params.h", ""),
        ("abi.h", "#include \"params.h\"\n"),
    ]);
    let check = |name: &str| {
        let source = folder.path().join(name);
        let files = includes::closure(&source, &[folder.path()]).expect("a closure");
        includes::no_collection(&source, &files)
    };
    assert_eq!(check("b.cu"), Ok(()));
    let error = check("a.cu").expect_err("all parameters");
    assert!(error.contains("a.cu includes abi.h"), "{error}");
}

/// Operations do not depend on each other's headers, parameters included, but for those that they
/// build on.
#[test]
fn no_operation_is_compiled_again_for_another_ones_header() {
    let kernels = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels"));
    for (source, folders) in [
        // It prepares its queries and new keys as rope_append does.
        (
            "attention/attention_decode",
            &["attention", "rope_append"][..],
        ),
        ("gated/gated", &["gated"]),
        // Its gates are activations.
        ("matmul/matmul_nibbles", &["matmul", "gated"]),
        ("moe_combine/moe_combine", &["moe_combine"]),
        ("moe_route/moe_route", &["moe_route"]),
        ("rms_norm/rms_norm", &["rms_norm"]),
        ("rope_append/rope_append", &["rope_append"]),
        ("sample/sample", &["sample"]),
    ] {
        for name in names(&kernels, &format!("ops/{source}.cu")) {
            let folder = name
                .strip_prefix("ops/")
                .and_then(|rest| rest.split('/').next());
            let known = folder.is_none_or(|folder| folders.contains(&folder));
            assert!(known && name != "abi.h", "{source}: {name}");
        }
    }
}
