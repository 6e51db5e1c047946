//! Seeded bugs that show in what a kernel computes, in one order or another; and the program's
//! own CUDA path in every order.

use onward_emulator::{Build, Copies, Emulator, Order, SCHEDULES};
use onward_kernels::cuda::Cuda;
use onward_tests::agreement::{assert_agrees, reference_outputs};

use crate::{launch, ramp};

/// The orders in which `kernel` computes something else than `expected`.
fn wrong(kernel: &str, shape: [u32; 3], n: usize, expected: &[f32]) -> Vec<(Order, Copies)> {
    let emulator = Emulator::faults(Build::Optimised).unwrap();
    let differs = |&(order, copies): &(Order, Copies)| {
        emulator.set_schedule(order, copies);
        let outputs = launch(&emulator, kernel, shape, &ramp(n), expected.len()).unwrap();
        outputs != expected
    };
    SCHEDULES.into_iter().filter(differs).collect()
}

#[test]
fn a_missing_barrier_shows_in_every_order() {
    let reversed: Vec<f32> = ramp(128).into_iter().rev().collect();
    assert_eq!(
        wrong("barrier_missing", [1, 128, 0], 128, &reversed),
        SCHEDULES
    );
    assert_eq!(wrong("barrier_there", [1, 128, 0], 128, &reversed), []);
}

#[test]
fn a_missing_wait_shows_where_copies_are_late() {
    let turned: Vec<f32> = (0..512).map(|i| ((i + 4) % 512) as f32).collect();
    let late = SCHEDULES
        .into_iter()
        .filter(|&(_, copies)| copies == Copies::Lazy);
    let shape = [1, 128, 2048];
    assert_eq!(
        wrong("wait_missing", shape, 512, &turned),
        late.collect::<Vec<_>>()
    );
    assert_eq!(wrong("wait_there", shape, 512, &turned), []);
}

#[test]
fn a_buffer_that_is_reused_too_early_shows() {
    let sums: Vec<f32> = (0..128)
        .map(|thread| {
            (0..4)
                .map(|tile| tile * 128 + (thread + 40) % 128)
                .sum::<i32>() as f32
        })
        .collect();
    let found = wrong("buffer_reused", [1, 128, 0], 512, &sums);
    for order in [Order::Forward, Order::Reverse] {
        assert!(found.contains(&(order, Copies::Lazy)), "{found:?}");
    }
    assert_eq!(wrong("buffer_guarded", [1, 128, 0], 512, &sums), []);
}

#[test]
fn the_cuda_backend_runs_on_it_in_every_order() {
    let emulator = Emulator::install(Build::Optimised).unwrap();
    let cuda = Cuda::open(0).unwrap();
    let expected = reference_outputs("rms_norm");
    for (order, copies) in SCHEDULES {
        emulator.set_schedule(order, copies);
        let what = format!("emulated ({order:?}, {copies:?})");
        assert_agrees(&what, "rms_norm", &cuda, &expected);
        assert_eq!(emulator.take_report(), None);
    }
}
