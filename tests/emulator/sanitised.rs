//! The sanitised build, in a process of its own: the sanitizer's library must be loaded first.

use std::process::Command;

use onward_emulator::{Build, Emulator, sanitised};

use crate::{launch, ramp};

/// Set in the process that runs a kernel: the kernel's name.
const KERNEL: &str = "ONWARD_SANITISED_KERNEL";

/// What the process says that runs `kernel`, and whether it ended well.
fn run(kernel: &str) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "sanitised::a_kernel_of_the_sanitised_build",
        "--nocapture",
    ]);
    command.env(KERNEL, kernel);
    assert!(sanitised(&mut command), "the compiler has no sanitizers");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        output.status.success(),
        said + &String::from_utf8_lossy(&output.stdout),
    )
}

#[test]
fn a_kernel_of_the_sanitised_build() {
    let Ok(kernel) = std::env::var(KERNEL) else {
        return;
    };
    let emulator = Emulator::faults(Build::Sanitised).unwrap();
    let (n_threads, n) = match kernel.as_str() {
        "shuffle_halves" => (32, 32),
        "store_past_end" | "load_past_end" => (128, 64),
        _ => (128, 128),
    };
    launch(&emulator, &kernel, [1, n_threads, 512], &ramp(n), n).unwrap();
}

fn assert_found(kernel: &str, parts: &[&str]) {
    let (passed, said) = run(kernel);
    assert!(!passed, "{kernel} went unnoticed: {said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn the_sanitizers_find_what_is_out_of_bounds() {
    for kernel in ["barrier_there", "shuffle_halves"] {
        let (passed, said) = run(kernel);
        assert!(passed, "{kernel}: {said}");
    }
    let file = "faults/addresses.cu";
    assert_found(
        "store_past_end",
        &["AddressSanitizer", "WRITE of size 4", file],
    );
    assert_found(
        "load_past_end",
        &["AddressSanitizer", "READ of size 4", file],
    );
    assert_found(
        "dynamic_past_end",
        &["AddressSanitizer", "WRITE of size 4", file],
    );
    assert_found("static_past_end", &["index 128 out of bounds", file]);
}
