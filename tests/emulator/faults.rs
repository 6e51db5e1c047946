//! Seeded bugs that end a launch with a report.

use onward_emulator::{Build, Emulator, SCHEDULES};

use crate::{launch, ramp};

/// Runs the kernel in every order: the report must be there each time, and name the kernel and
/// each of `parts`.
fn assert_reported(build: Build, kernel: &str, shape: [u32; 3], n: usize, parts: &[&str]) {
    let emulator = Emulator::faults(build).unwrap();
    for (order, copies) in SCHEDULES {
        emulator.set_schedule(order, copies);
        let report = launch(&emulator, kernel, shape, &ramp(n), n)
            .expect_err(&format!("{kernel} went unnoticed ({order:?}, {copies:?})"));
        let start = format!("kernel {kernel}");
        for part in [start.as_str()].iter().chain(parts) {
            assert!(report.contains(part), "{part:?} is not in {report:?}");
        }
    }
    emulator.take_counters();
}

/// The kernel passes in every order, with these outputs.
fn assert_passes(build: Build, kernel: &str, shape: [u32; 3], n: usize, expected: &[f32]) {
    let emulator = Emulator::faults(build).unwrap();
    for (order, copies) in SCHEDULES {
        emulator.set_schedule(order, copies);
        let outputs = launch(&emulator, kernel, shape, &ramp(n), expected.len());
        assert_eq!(
            outputs.as_deref(),
            Ok(expected),
            "{kernel}, {order:?}, {copies:?}"
        );
    }
    emulator.take_counters();
}

#[test]
fn lanes_that_diverge_are_reported() {
    let shape = [1, 32, 0];
    let file = "faults/divergence.cu";
    for build in [Build::Optimised, Build::Counted] {
        let parts = ["__shfl_xor_sync", "ended", file];
        assert_reported(build, "shuffle_divergent", shape, 32, &parts);
        let parts = ["diverge", "__ballot_sync", "__shfl_xor_sync", file];
        assert_reported(build, "shuffle_with_vote", shape, 32, &parts);
        let parts = ["reads lane 20", "0000ffff"];
        assert_reported(build, "shuffle_outside", shape, 32, &parts);
        let halves: Vec<f32> = (0..32)
            .map(|i: i32| if i < 16 { i + (i ^ 1) } else { i - (i ^ 2) })
            .map(|i| i as f32)
            .collect();
        assert_passes(build, "shuffle_halves", shape, 32, &halves);
    }
}

#[test]
fn a_deadlock_names_who_waits_where() {
    let parts = [
        "block (0, 0, 0)",
        "deadlock: threads 0 to 31 in named_barrier (faults/divergence.cu:",
        "threads 32 to 63 in named_barrier (faults/divergence.cu:",
    ];
    assert_reported(Build::Optimised, "deadlock", [1, 64, 0], 64, &parts);
    let parts = ["__syncthreads", "ended"];
    assert_reported(
        Build::Optimised,
        "barrier_after_exit",
        [1, 64, 0],
        64,
        &parts,
    );
}

#[test]
fn misaligned_addresses_are_reported() {
    for build in [Build::Optimised, Build::Counted] {
        let parts = ["load_pack", "aligned to 16 bytes"];
        assert_reported(build, "misaligned_pack", [1, 32, 0], 64, &parts);
        let parts = ["thread (1, 0, 0)", "cp.async", "not aligned to 16 bytes"];
        let emulator = Emulator::faults(build).unwrap();
        emulator.set_schedule(crate::PLAIN.0, crate::PLAIN.1);
        let report = launch(&emulator, "misaligned_copy", [1, 32, 1024], &ramp(128), 128)
            .expect_err("misaligned");
        for part in parts {
            assert!(report.contains(part), "{report}");
        }
        let parts = ["ldmatrix", "not aligned to 16 bytes"];
        assert_reported(build, "misaligned_matrix", [1, 32, 1024], 32, &parts);
    }
}

#[test]
fn addresses_past_an_end_are_reported() {
    let shape = [1, 128, 0];
    // The margin around an allocation shows stores, afterwards.
    let parts = ["out of bounds", "byte 256 of an allocation of 256 bytes"];
    assert_reported(Build::Optimised, "store_past_end", shape, 64, &parts);
    // Counting sees every access as it happens, and where in the source it is.
    let parts = [
        "thread (64, 0, 0)",
        "out of bounds: a store of 4 bytes",
        "faults/addresses.cu:9",
    ];
    assert_reported(Build::Counted, "store_past_end", shape, 64, &parts);
    let parts = ["thread (63, 0, 0)", "out of bounds: a load of 4 bytes"];
    assert_reported(Build::Counted, "load_past_end", shape, 64, &parts);
    for build in [Build::Optimised, Build::Counted] {
        let parts = ["ldmatrix", "past its end at 512"];
        assert_reported(build, "matrix_past_end", [1, 32, 512], 32, &parts);
    }
    let parts = ["out of bounds: a store of 4 bytes", "faults/addresses.cu"];
    assert_reported(
        Build::Counted,
        "dynamic_past_end",
        [1, 128, 512],
        128,
        &parts,
    );
    let parts = ["written past the end"];
    assert_reported(
        Build::Optimised,
        "dynamic_past_end",
        [1, 128, 512],
        128,
        &parts,
    );
}

#[test]
fn a_copy_that_is_never_committed_is_reported() {
    let parts = ["cp.async", "never committed"];
    assert_reported(
        Build::Optimised,
        "commit_missing",
        [1, 128, 2048],
        512,
        &parts,
    );
}

#[test]
fn races_in_shared_memory_are_reported() {
    let reversed: Vec<f32> = ramp(128).into_iter().rev().collect();
    let file = "faults/barriers.cu:";
    let parts = ["shared-memory race", file];
    let shape = [1, 128, 0];
    assert_reported(Build::Counted, "barrier_missing", shape, 128, &parts);
    assert_passes(Build::Counted, "barrier_there", shape, 128, &reversed);

    // 4 tiles: thread t sums value t + 40 of each.
    let sums: Vec<f32> = (0..128)
        .map(|thread| {
            (0..4)
                .map(|tile| tile * 128 + (thread + 40) % 128)
                .sum::<i32>() as f32
        })
        .collect();
    assert_reported(Build::Counted, "buffer_reused", shape, 512, &parts);
    assert_passes(Build::Counted, "buffer_guarded", shape, 512, &sums);
}
