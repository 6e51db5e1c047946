//! Every operation of the registry on the emulated device: the CUDA kernels themselves, under
//! every order of threads and both timings of asynchronous copies, held to the reference and to
//! the promise that a row's bits do not depend on its company.
//!
//! The same again under the address and undefined-behaviour sanitizers, in a process of its own
//! that has their runtime preloaded.

use std::process::Command;

use onward_emulator::{Build, Emulator, SCHEDULES};
use onward_kernels::cuda::Cuda;
use onward_tests::agreement::{assert_agrees, assert_rows_stand_alone, reference_outputs};

/// Names the build of the emulated device to the process that has the sanitizers.
const SANITISED: &str = "ONWARD_TEST_SANITISED";

fn emulated() -> (Emulator, Cuda) {
    let build = match std::env::var_os(SANITISED) {
        Some(_) => Build::Sanitised,
        None => Build::Optimised,
    };
    let emulator = Emulator::install(build).unwrap();
    (emulator, Cuda::open(0).unwrap())
}

fn agrees(op: &str) {
    let (emulator, cuda) = emulated();
    let expected = reference_outputs(op);
    for (order, copies) in SCHEDULES {
        emulator.set_schedule(order, copies);
        let what = format!("emulated ({order:?}, {copies:?})");
        assert_agrees(&what, op, &cuda, &expected);
        assert_eq!(emulator.take_report(), None);
    }
    assert_rows_stand_alone("emulated", op, &cuda);
}

/// A test an operation, so that they run side by side.
macro_rules! operations {
    ($($op:ident),*) => {
        mod agrees {
            $(#[test]
            fn $op() {
                super::agrees(stringify!($op));
            })*
        }

        const TESTED: &[&str] = &[$(stringify!($op)),*];
    };
}

operations!(
    embed,
    rms_norm,
    matmul,
    rope_append,
    attention,
    gated,
    logits,
    sample,
    moe_route,
    moe_combine
);

#[test]
fn nothing_is_found_by_the_sanitizers() {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let runtime = Command::new(&compiler)
        .arg("-print-file-name=libasan.so")
        .output()
        .unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("agrees::")
        .env(SANITISED, "1")
        .env(
            "LD_PRELOAD",
            String::from_utf8(runtime.stdout).unwrap().trim(),
        )
        .env("ASAN_OPTIONS", "detect_leaks=0:halt_on_error=1")
        .env("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(&format!("{} passed", TESTED.len())),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
