//! `abi.h` → `abi.rs`, and the proof that every compiler lays the structs out alike.
//!
//! Rust's layout is libclang's, which bindgen reads. bindgen's output is turned back into
//! assertions, `abi_layout.h`, which the host's C and C++ compilers pass here and nvcc passes
//! ahead of every kernel.

use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use crate::tasks::{files, write_if_changed};
use crate::toolchain::Toolchain;

const HEADER: &str = "abi.h";

/// The assertions, in `OUT_DIR`.
pub(crate) const LAYOUT: &str = "abi_layout.h";

/// Writes `abi.rs`.
///
/// # Errors
///
/// One sentence where libclang is missing, the header does not parse or a layout differs.
pub(crate) fn generate(toolchain: &Toolchain, out_dir: &Path) -> Result<(), String> {
    println!("cargo::rerun-if-changed={HEADER}");
    for header in files("ops", "h")?.iter().chain(&files("device", "h")?) {
        println!("cargo::rerun-if-changed={}", header.display());
    }
    println!("cargo::rerun-if-changed=build/abi.rs");
    let bindings = bind(toolchain)?;
    assert_layout(&layout(&bindings)?, out_dir)?;
    write_if_changed(&out_dir.join("abi.rs"), bindings.as_bytes())
}

/// The Rust text of the header's structs and constants.
fn bind(toolchain: &Toolchain) -> Result<String, String> {
    if let Some(folder) = &toolchain.libclang {
        // SAFETY: the build script has one thread here.
        unsafe { std::env::set_var("LIBCLANG_PATH", folder) };
    }
    let builder = bindgen::Builder::default()
        .header(HEADER)
        .clang_arg("-I.")
        .derive_default(false)
        .derive_debug(true)
        .layout_tests(true)
        .formatter(bindgen::Formatter::None)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .merge_extern_blocks(true);
    // bindgen panics where libclang cannot be loaded; its report is replaced by ours.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let generated = panic::catch_unwind(AssertUnwindSafe(|| builder.generate()));
    panic::set_hook(hook);
    match generated {
        Ok(Ok(bindings)) => Ok(bindings.to_string()),
        Ok(Err(error)) => Err(format!("bindgen cannot read kernels/{HEADER}: {error}")),
        Err(_) => Err(
            "bindgen found no libclang to read the kernels' header with: run `make toolchain` to \
             get one, set LIBCLANG_PATH to its folder, or build without CUDA by \
             --no-default-features"
                .to_owned(),
        ),
    }
}

/// A fact about a struct, as C spells it, and its value in bytes.
struct Fact {
    expression: String,
    bytes: usize,
}

/// The facts in bindgen's layout assertions, statements that read
/// `["Size of T"][size_of::<T>() - 8usize]` or `["Offset of field: T::f"][… - 8usize]`.
///
/// # Errors
///
/// A statement that reads otherwise: a fact must not go unchecked.
fn layout(bindings: &str) -> Result<Vec<Fact>, String> {
    bindings
        .split(';')
        .filter(|statement| statement.contains('"'))
        .map(|statement| {
            fact(statement)
                .ok_or_else(|| format!("bindgen wrote {statement:?}, no known assertion"))
        })
        .collect()
}

fn fact(statement: &str) -> Option<Fact> {
    let (_, labelled) = statement.split_once('"')?;
    let (label, rest) = labelled.split_once('"')?;
    let (_, number) = rest.rsplit_once('-')?;
    let bytes = number.trim().split_once("usize")?.0.parse().ok()?;
    let expression = if let Some(name) = label.strip_prefix("Size of ") {
        format!("sizeof({name})")
    } else if let Some(name) = label.strip_prefix("Alignment of ") {
        format!("ALIGNOF({name})")
    } else {
        let (name, field) = label.strip_prefix("Offset of field: ")?.split_once("::")?;
        format!("offsetof({name}, {field})")
    };
    Some(Fact { expression, bytes })
}

/// Writes the facts as assertions and compiles them as C and as C++.
fn assert_layout(facts: &[Fact], out_dir: &Path) -> Result<(), String> {
    if facts.is_empty() {
        return Err(format!("bindgen found no struct in kernels/{HEADER}"));
    }
    let mut text = String::from(
        "#include <stddef.h>\n\
         #include \"abi.h\"\n\
         #ifdef __cplusplus\n\
         #define ASSERT static_assert\n#define ALIGNOF alignof\n\
         #else\n\
         #define ASSERT _Static_assert\n#define ALIGNOF _Alignof\n\
         #endif\n",
    );
    for Fact { expression, bytes } in facts {
        let _ = writeln!(
            text,
            "ASSERT({expression} == {bytes}, \"Rust: {expression} is {bytes}\");"
        );
    }
    text.push_str("#undef ASSERT\n#undef ALIGNOF\n");
    write_if_changed(&out_dir.join(LAYOUT), text.as_bytes())?;
    for (file, cpp) in [("abi_layout.c", false), ("abi_layout.cpp", true)] {
        let source = out_dir.join(file);
        write_if_changed(&source, format!("#include {LAYOUT:?}\n").as_bytes())?;
        cc::Build::new()
            .cpp(cpp)
            .std(if cpp { "c++17" } else { "c11" })
            .include(".")
            .file(&source)
            .cargo_metadata(false)
            .try_compile_intermediates()
            .map_err(|error| format!("kernels/{HEADER}, compiled as {file}: {error}"))?;
    }
    Ok(())
}
