//! Compiles the emulated device: the CUDA kernels (all `.cu` files of `../ops` and `../device`) by the host's compiler, with
//! the machine and the driver that run them, into one shared library for each [`Build`].
//!
//! [`Build`]: struct.Build.html

#[allow(dead_code)]
#[path = "../build/includes.rs"]
mod includes;
#[path = "../build/tasks.rs"]
mod tasks;
#[allow(dead_code)]
#[path = "../build/toolchain.rs"]
mod toolchain;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use tasks::{files, make_once, read_all, run_all};
use toolchain::Toolchain;

/// A way to compile the emulated device.
struct Build {
    /// What `lib.rs` calls it, in small letters.
    name: &'static str,
    /// Flags beside those of all builds.
    flags: &'static [&'static str],
}

const BUILDS: [Build; 2] = [
    Build {
        name: "optimised",
        flags: &[],
    },
    Build {
        name: "sanitised",
        flags: &[
            "-fsanitize=address,undefined",
            "-fsanitize-sections=emulated_shared",
            "-fno-sanitize-recover=undefined",
            "-fno-omit-frame-pointer",
        ],
    },
];

/// Of all builds. Floating point is what nvcc makes of it with -fmad=false: no operations are
/// fused but where the source says so.
const FLAGS: &[&str] = &[
    "-std=c++20",
    "-O2",
    "-g1",
    "-march=native",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fno-exceptions",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffile-prefix-map=../=",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-Werror",
];

/// One source to compile or, with no source, the library to link.
struct Object {
    build: &'static Build,
    source: PathBuf,
    output: PathBuf,
    key: String,
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../build");
    if let Err(message) = build() {
        println!("cargo::error={message}");
    }
}

fn build() -> Result<(), String> {
    let out_dir = std::env::var("OUT_DIR").map_err(|_| "OUT_DIR is not set".to_owned())?;
    let toolchain = toolchain::find(Path::new("../../target/toolchain"))?;
    // What only one architecture has is not emulated.
    let sources = [files("../ops", "cu")?, files("../device", "cu")?].concat();
    let mut sources = includes::unrestricted(sources)?;
    sources.extend(files("machine", "cpp")?);
    sources.extend(files("driver", "cpp")?);
    let mut headers = vec![PathBuf::from("../abi.h")];
    for folder in ["../ops", "../device", "machine", "driver", "shadow"] {
        for extension in ["h", "cuh"] {
            headers.extend(files(folder, extension)?);
        }
        // Folders too, so that a new file is seen.
        println!("cargo::rerun-if-changed={folder}");
    }
    for path in sources.iter().chain(&headers) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let objects = plan(&toolchain, &sources, &headers, Path::new(&out_dir))?;
    run_all(&objects, |object| compile(&toolchain, object))?;
    for build in &BUILDS {
        let library = Path::new(&out_dir).join(format!("{}/libcuda.so", build.name));
        link(&toolchain, build, &objects, &library)?;
        println!(
            "cargo::rustc-env=EMULATOR_{}={}",
            build.name.to_uppercase(),
            library.display()
        );
    }
    Ok(())
}

/// Every source for every build. The sources that took longest come first, as far as their
/// length tells.
fn plan(
    toolchain: &Toolchain,
    sources: &[PathBuf],
    headers: &[PathBuf],
    out_dir: &Path,
) -> Result<Vec<Object>, String> {
    let headers = read_all(headers)?;
    let mut objects = Vec::new();
    for build in &BUILDS {
        let folder = out_dir.join(build.name);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        for (source, text) in sources.iter().zip(read_all(sources)?) {
            let mut hasher = DefaultHasher::new();
            (&toolchain.host_cxx, FLAGS, build.flags, &headers, &text).hash(&mut hasher);
            let name: Vec<_> = source
                .iter()
                .map(|part| part.to_string_lossy())
                .filter(|part| part != "..")
                .collect();
            objects.push(Object {
                build,
                source: source.clone(),
                output: folder.join(format!("{}.o", name.join("-"))),
                key: format!("{:016x}", hasher.finish()),
            });
        }
    }
    Ok(objects)
}

fn compile(toolchain: &Toolchain, object: &Object) -> Result<(), String> {
    make_once(&object.output, &object.key, || {
        let mut command = Command::new(&toolchain.host_cxx);
        command.args(FLAGS).args(object.build.flags);
        // The twins of the device's headers come before the originals.
        command.args(["-Ishadow", "-I.."]);
        if let Some(include) = &toolchain.include {
            command.arg("-isystem").arg(include);
        }
        command.args(["-x", "c++", "-c"]).arg(&object.source);
        command.arg("-o").arg(&object.output);
        run(command, &object.source)
    })
}

/// Links the objects of a build, if one of them is new.
fn link(
    toolchain: &Toolchain,
    build: &Build,
    objects: &[Object],
    library: &Path,
) -> Result<(), String> {
    let own = || {
        objects
            .iter()
            .filter(|object| object.build.name == build.name)
    };
    let keys: Vec<_> = own().map(|object| object.key.as_str()).collect();
    make_once(library, &keys.join(" "), || {
        let mut command = Command::new(&toolchain.host_cxx);
        command.args(FLAGS).args(build.flags);
        // cudarc asks for libcuda.so and gets the library of that name which is loaded already.
        command.args(["-shared", "-Wl,-soname,libcuda.so", "-o"]);
        command.arg(library);
        command.args(own().map(|object| &object.output));
        run(command, library)
    })
}

fn run(mut command: Command, what: &Path) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("the C++ compiler does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    let first = said.lines().find(|line| line.contains("error"));
    Err(format!(
        "the emulated device: {} does not compile: {}",
        what.display(),
        first.unwrap_or(said.trim())
    ))
}
