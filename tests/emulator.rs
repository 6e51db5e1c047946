//! The emulated device itself: it runs the program's own CUDA path, and it finds what it is
//! there to find.

use onward_emulator::{Build, Emulator, SCHEDULES};
use onward_kernels::cuda::Cuda;
use onward_tests::agreement::{assert_agrees, reference_outputs};

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
