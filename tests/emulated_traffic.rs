//! What the CUDA kernels move and issue, counted on the emulated device: snapshots of every
//! operation's kernels over all of its cases.
//!
//! The counting build also faults at accesses outside of allocations and at races in shared
//! memory, so this runs every case under that watch. `ONWARD_UPDATE_TRAFFIC=1` writes the snapshots.

use onward_emulator::{Build, Copies, Emulator, Order, SCHEDULES};
use onward_kernels::cuda::Cuda;
use onward_tests::agreement::{cases, ops};
use onward_tests::traffic::{agree, differences, launched};

fn device() -> (Emulator, Cuda) {
    let emulator = Emulator::install(Build::Counted).unwrap();
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    (emulator, Cuda::open(0).unwrap())
}

#[test]
fn a_snapshot_that_differs_is_seen() {
    let line = "gated x 3: memory 1000/500 B, loads [0, 0, 7, 0, 3]";
    assert!(agree(line, &line.replace("1000", "1010")));
    assert!(!agree(line, &line.replace("1000", "2000")));
    assert!(!agree(line, &line.replace("7", "8")));
    assert!(!agree(line, &line.replace("gated", "other")));
    assert!(!agree(line, ""));
}

#[test]
fn kernels_move_and_issue_what_they_did() {
    let (emulator, cuda) = device();
    let mut changed = String::new();
    for op in ops() {
        let found = launched(&emulator, &cuda, op, |_| true);
        println!("{op}:\n{found}");
        changed += &differences(op, &found);
    }
    assert!(changed.is_empty(), "{changed}");
}

/// The same watch in the other orders, one a case.
#[test]
fn no_order_shows_a_race() {
    let (emulator, cuda) = device();
    for op in ops() {
        for (index, case) in cases::<Cuda>(op).iter().enumerate() {
            let (order, copies) = SCHEDULES[1 + index % (SCHEDULES.len() - 1)];
            emulator.set_schedule(order, copies);
            let outcome = case.run(&cuda);
            let report = emulator.take_report();
            assert!(report.is_none(), "{op}, {case:?}: {report:?}");
            outcome.unwrap();
        }
        emulator.take_counters();
    }
}
