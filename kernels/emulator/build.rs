//! Compiles the emulated device: the CUDA kernels (all `.cu` files of `../ops` and `../device`) by the host's compiler, with
//! the machine and the driver that run them, into one shared library for each [`Build`].
//!
//! [`Build`]: struct.Build.html

#[allow(dead_code)]
#[path = "../build/includes.rs"]
mod includes;
#[allow(dead_code)]
#[path = "../build/tasks.rs"]
mod tasks;
#[allow(dead_code)]
#[path = "../build/toolchain.rs"]
mod toolchain;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use tasks::{files, make_once, run_all};
use toolchain::Toolchain;

/// A way to compile the emulated device.
struct Build {
    /// What `lib.rs` calls it, in small letters.
    name: &'static str,
    /// Flags beside those of all builds.
    flags: &'static [&'static str],
    /// Flags of the kernels alone.
    kernel_flags: &'static [&'static str],
}

const BUILDS: [Build; 3] = [
    Build {
        name: "optimised",
        flags: &[],
        kernel_flags: &[],
    },
    Build {
        name: "counted",
        flags: &["-DEMULATOR_COUNTED"],
        // Each access is announced by a call, as far as possible one for each that nvcc makes:
        // so none is put together that the source keeps apart.
        kernel_flags: &[
            "-fsanitize=thread",
            "--param=tsan-instrument-func-entry-exit=0",
            "-fno-tree-vectorize",
            "-fno-store-merging",
        ],
    },
    Build {
        name: "sanitised",
        flags: &[
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined",
            "-fno-omit-frame-pointer",
        ],
        // A third of the time to compile.
        kernel_flags: &["-O1"],
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
    "-fmacro-prefix-map=../=",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-Werror",
];

/// Where includes are looked for: the twins of the device's headers come before the originals.
const FOLDERS: [&str; 2] = ["shadow", ".."];

/// One source to compile.
struct Object {
    build: &'static Build,
    source: PathBuf,
    /// Bytes of text, which tell how long it takes.
    size: usize,
    /// Where all builds keep it; its name holds the hash of all that it is made from.
    output: PathBuf,
    flags: Vec<&'static str>,
}

impl Object {
    /// Kernels that exist to go wrong: they are linked into a library of their own.
    fn is_fault(&self) -> bool {
        self.source.starts_with("faults")
    }

    fn is_kernel(source: &Path) -> bool {
        source
            .extension()
            .is_some_and(|extension| extension == "cu")
    }
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
    let mut sources = [files("../ops", "cu")?, files("../device", "cu")?].concat();
    sources.extend(files("faults", "cu")?);
    sources.extend(files("machine", "cpp")?);
    sources.extend(files("driver", "cpp")?);
    // Folders too, so that a new file is seen.
    for folder in [
        "../ops",
        "../device",
        "faults",
        "machine",
        "driver",
        "shadow",
    ] {
        println!("cargo::rerun-if-changed={folder}");
        for extension in ["cu", "cuh", "h", "cpp"] {
            for path in files(folder, extension)? {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    let objects = plan(&toolchain, &sources, Path::new(&out_dir))?;
    // The longest first: none is left to run alone at the end.
    let mut order: Vec<&Object> = objects.iter().collect();
    order.sort_by_key(|object| std::cmp::Reverse(object.size));
    run_all(&order, |object| compile(&toolchain, object))?;
    println!(
        "cargo::rustc-env=EMULATOR_CXX={}",
        toolchain.host_cxx.display()
    );
    for build in &BUILDS {
        let folder = Path::new(&out_dir).join(build.name);
        make_folder(&folder)?;
        let (real, faults) = (folder.join("libcuda.so"), folder.join("faults.so"));
        link(&toolchain, build, &objects, &real, |object| {
            !object.is_fault()
        })?;
        link(&toolchain, build, &objects, &faults, |object| {
            object.is_fault() || !Object::is_kernel(&object.source)
        })?;
        let variable = build.name.to_uppercase();
        println!("cargo::rustc-env=EMULATOR_{variable}={}", real.display());
        println!(
            "cargo::rustc-env=EMULATOR_FAULTS_{variable}={}",
            faults.display()
        );
    }
    Ok(())
}

/// Every source for every build.
fn plan(toolchain: &Toolchain, sources: &[PathBuf], out_dir: &Path) -> Result<Vec<Object>, String> {
    // <target>/<profile>/build/<package>/out
    let target = out_dir.ancestors().nth(4).unwrap_or(out_dir);
    let kept = target.join("emulated-objects");
    make_folder(&kept)?;
    let mut objects = Vec::new();
    for source in sources {
        let texts = includes::closure(source, &FOLDERS.map(Path::new))?;
        includes::no_collection(source, &texts)?;
        let name = source
            .to_string_lossy()
            .replace("../", "")
            .replace('/', "-");
        for build in &BUILDS {
            let mut flags = [FLAGS, build.flags].concat();
            if Object::is_kernel(source) {
                flags.extend(build.kernel_flags);
            }
            let mut hasher = DefaultHasher::new();
            (&toolchain.host_cxx, &toolchain.release, &flags, &texts).hash(&mut hasher);
            let key = hasher.finish();
            objects.push(Object {
                build,
                source: source.clone(),
                size: texts.iter().map(|(_, text)| text.len()).sum(),
                output: kept.join(format!("{name}.{}.{key:016x}.o", build.name)),
                flags,
            });
        }
    }
    Ok(objects)
}

fn make_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))
}

fn compile(toolchain: &Toolchain, object: &Object) -> Result<(), String> {
    if object.output.is_file() {
        return Ok(());
    }
    let mut command = Command::new(&toolchain.host_cxx);
    command.args(&object.flags);
    command.args(FOLDERS.map(|folder| format!("-I{folder}")));
    if let Some(include) = &toolchain.include {
        command.arg("-isystem").arg(include);
    }
    command.args(["-x", "c++", "-c"]).arg(&object.source);
    // Another build may be at it too: it appears whole or not at all.
    let fresh = object.output.with_extension(std::process::id().to_string());
    command.arg("-o").arg(&fresh);
    run(command, &object.source)?;
    std::fs::rename(&fresh, &object.output)
        .map_err(|error| format!("cannot keep {}: {error}", object.output.display()))
}

/// Links the objects of a build that belong, if one of them is new.
fn link(
    toolchain: &Toolchain,
    build: &Build,
    objects: &[Object],
    library: &Path,
    belongs: impl Fn(&Object) -> bool,
) -> Result<(), String> {
    let own: Vec<&Object> = objects
        .iter()
        .filter(|object| object.build.name == build.name && belongs(object))
        .collect();
    let keys: Vec<_> = own
        .iter()
        .map(|object| object.output.to_string_lossy())
        .collect();
    make_once(library, &keys.join("\n"), || {
        let mut command = Command::new(&toolchain.host_cxx);
        command.args(FLAGS).args(build.flags);
        // cudarc asks for libcuda.so and gets the library of that name which is loaded already.
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        command
            .args(["-shared", "-Wl,-Bsymbolic,--no-undefined", "-o"])
            .arg(library);
        command.arg(format!("-Wl,-soname,{name}"));
        command.args(own.iter().map(|object| &object.output));
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
