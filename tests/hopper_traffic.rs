//! What the kernels with Hopper's own instructions move and issue, as `emulated_traffic.rs` has it of
//! the others: a process of its own, because the emulated device is a Hopper here.

use onward_emulator::{Build, Copies, Emulator, Order, Properties};
use onward_kernels::cuda::{self, Cuda};
use onward_tests::traffic::{differences, launched};

#[test]
fn hopper_kernels_move_and_issue_what_they_did() {
    if !cuda::images().iter().any(|image| image.target == "sm_90a") {
        println!("not built for sm_90a: there are no such kernels");
        return;
    }
    let emulator = Emulator::install(Build::Counted).unwrap();
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    emulator.set_properties(Properties {
        capability: (9, 0),
        ..Properties::default()
    });
    let mut cuda = Cuda::open(0).unwrap();
    cuda.try_hopper();
    let report = emulator.take_report();
    assert!(report.is_none(), "{report:?}");
    let is_hopper = |kernel: &str| kernel.ends_with("_hopper");
    let found = ["matmul", "attention"].map(|op| launched(&emulator, &cuda, op, is_hopper));
    let found = found.concat();
    println!("{found}");
    // A kernel for each width and for each format but f32.
    assert_eq!(
        found.lines().count(),
        cuda.hopper_widths().len() + cuda.hopper_formats().len()
    );
    let changed = differences("hopper", &found);
    assert!(changed.is_empty(), "{changed}");
}
