//! The kernels that use Hopper's own instructions, on the emulated device: twins of the
//! instructions (`shadow/device/ptx_hopper.cuh`) under the very kernels. What this cannot judge are
//! the assembly and the descriptors; the program itself compares on the GPU, when it opens one.

use onward_emulator::{Build, Emulator, Properties, SCHEDULES};
use onward_kernels::Format;
use onward_kernels::cuda::{self, Cuda};
use onward_tests::agreement::{assert_agrees, assert_rows_stand_alone, reference_outputs};

const HOPPER: (u8, u8) = (9, 0);

fn open(capability: (u8, u8)) -> (Emulator, Cuda) {
    let emulator = Emulator::install(Build::Optimised).unwrap();
    emulator.set_properties(Properties {
        capability,
        ..Properties::default()
    });
    (emulator, Cuda::open(0).unwrap())
}

/// One test, because the properties are the process's.
#[test]
fn many_tokens_are_multiplied_by_warpgroups_where_they_give_the_same_bits() {
    assert!(open((8, 0)).1.try_hopper().is_empty());
    if !cuda::images().iter().any(|image| image.target == "sm_90a") {
        println!("not built for sm_90a: there are no such kernels");
        return;
    }
    let (emulator, mut cuda) = open(HOPPER);
    let all: Vec<Format> = Format::ALL
        .into_iter()
        .filter(|&format| format != Format::F32)
        .collect();
    for (order, copies) in SCHEDULES {
        emulator.set_schedule(order, copies);
        // Compares the bits of both kernels of each format.
        let formats = cuda.try_hopper().to_vec();
        let report = emulator.take_report();
        assert_eq!(formats, all, "{order:?}, {copies:?}: {report:?}");
    }
    assert_agrees("Hopper", "matmul", &cuda, &reference_outputs("matmul"));
    assert_rows_stand_alone("Hopper", "matmul", &cuda);
    assert_eq!(emulator.take_report(), None);
}
