//! `abi.h` → `abi.rs`, and the proof that every compiler lays the structs out alike.
//!
//! Rust's layout is libclang's, which bindgen reads. bindgen's output is turned back into
//! assertions, which the host's C and C++ compilers pass here and nvcc passes ahead of every
//! kernel: of the structs that its own headers define, so that it is not compiled again for
//! another's.

use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use crate::includes;
use crate::tasks::{files, write_if_changed};
use crate::toolchain::Toolchain;

const HEADER: &str = "abi.h";

/// Writes `abi.rs`; what it says of the structs' layout is for the kernels to be held to.
///
/// # Errors
///
/// One sentence where libclang is missing, the header does not parse or a layout differs.
pub(crate) fn generate(toolchain: &Toolchain, out_dir: &Path) -> Result<Layout, String> {
    println!("cargo::rerun-if-changed={HEADER}");
    for header in files("ops", "h")?.iter().chain(&files("device", "h")?) {
        println!("cargo::rerun-if-changed={}", header.display());
    }
    println!("cargo::rerun-if-changed=build/abi.rs");
    let bindings = bind(toolchain)?;
    let layout = Layout::read(&bindings)?;
    let headers = includes::closure(Path::new(HEADER), &[Path::new(".")])?;
    layout.assert_on_host(&headers, out_dir)?;
    write_if_changed(&out_dir.join("abi.rs"), bindings.as_bytes())?;
    Ok(layout)
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
    of: String,
    expression: String,
    bytes: usize,
}

/// What Rust takes the structs' layout to be.
pub(crate) struct Layout {
    facts: Vec<Fact>,
}

impl Layout {
    /// The facts in bindgen's layout assertions, statements that read
    /// `["Size of T"][size_of::<T>() - 8usize]` or `["Offset of field: T::f"][… - 8usize]`.
    ///
    /// # Errors
    ///
    /// No fact, or a statement that reads otherwise: a fact must not go unchecked.
    fn read(bindings: &str) -> Result<Self, String> {
        let facts = bindings
            .split(';')
            .filter(|statement| statement.contains('"'))
            .map(|statement| {
                fact(statement)
                    .ok_or_else(|| format!("bindgen wrote {statement:?}, no known assertion"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if facts.is_empty() {
            return Err(format!("bindgen found no struct in kernels/{HEADER}"));
        }
        Ok(Self { facts })
    }

    /// A header that asserts the layout of every struct that is defined in the headers (`.h`)
    /// among `files`, with how many assertions it has.
    pub(crate) fn assertions(&self, files: &[(PathBuf, String)]) -> (String, usize) {
        let mut text = String::from("#include <stddef.h>\n");
        let headers: Vec<_> = files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "h"))
            .collect();
        for (path, _) in &headers {
            let _ = writeln!(text, "#include {path:?}");
        }
        text.push_str(
            "#ifdef __cplusplus\n\
             #define ASSERT static_assert\n#define ALIGNOF alignof\n\
             #else\n\
             #define ASSERT _Static_assert\n#define ALIGNOF _Alignof\n\
             #endif\n",
        );
        let is_defined = |fact: &&Fact| {
            let definition = format!("typedef struct {} {{", fact.of);
            headers.iter().any(|(_, text)| text.contains(&definition))
        };
        let mut n_assertions = 0;
        for Fact {
            expression, bytes, ..
        } in self.facts.iter().filter(is_defined)
        {
            let _ = writeln!(
                text,
                "ASSERT({expression} == {bytes}, \"Rust: {expression} is {bytes}\");"
            );
            n_assertions += 1;
        }
        text.push_str("#undef ASSERT\n#undef ALIGNOF\n");
        (text, n_assertions)
    }

    /// Compiles the assertions of all structs as C and as C++.
    fn assert_on_host(&self, headers: &[(PathBuf, String)], out_dir: &Path) -> Result<(), String> {
        let (text, n_assertions) = self.assertions(headers);
        if n_assertions != self.facts.len() {
            return Err(format!(
                "of {} facts that bindgen states about the structs of kernels/{HEADER} \
                 {n_assertions} are about a `typedef struct NAME {{` in its headers",
                self.facts.len()
            ));
        }
        for (file, cpp) in [("abi_layout.c", false), ("abi_layout.cpp", true)] {
            let source = out_dir.join(file);
            write_if_changed(&source, text.as_bytes())?;
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
}

fn fact(statement: &str) -> Option<Fact> {
    let (_, labelled) = statement.split_once('"')?;
    let (label, rest) = labelled.split_once('"')?;
    let (_, number) = rest.rsplit_once('-')?;
    let bytes = number.trim().split_once("usize")?.0.parse().ok()?;
    let (of, expression) = if let Some(name) = label.strip_prefix("Size of ") {
        (name, format!("sizeof({name})"))
    } else if let Some(name) = label.strip_prefix("Alignment of ") {
        (name, format!("ALIGNOF({name})"))
    } else {
        let (name, field) = label.strip_prefix("Offset of field: ")?.split_once("::")?;
        (name, format!("offsetof({name}, {field})"))
    };
    Some(Fact {
        of: of.to_owned(),
        expression,
        bytes,
    })
}
