//! The kernels that use Hopper's own instructions, on the emulated device: twins of the
//! instructions (`shadow/device/ptx_hopper.cuh`) under the very kernels. What this cannot judge are
//! the assembly and the descriptors: a Hopper itself does (ONWARD_TEST_GPU=1).

use onward_kernels::Format;
use onward_kernels::cuda::{self, Cuda, KvType};
use onward_kernels::ops::attention::Mask;
use onward_tests::agreement::{
    assert_agrees, assert_rows_stand_alone, cases, first_difference, reference_outputs,
    run as outputs,
};
use onward_tests::attention_layer::{Layer, Steps, run};
use onward_tests::device::TestDevice;

/// The compute capability that has them.
const HOPPER: (u32, u32) = (9, 0);

/// One test, because the properties are the process's.
#[test]
fn warpgroups_compute_many_tokens_where_they_give_the_same_bits() {
    let mut other = TestDevice::install_as((8, 0)).open();
    if other.device().gpu().compute_capability != HOPPER {
        other.try_hopper();
        assert!(other.hopper_formats().is_empty() && other.hopper_widths().is_empty());
    }
    if !cuda::images().iter().any(|image| image.target == "sm_90a") {
        println!("not built for sm_90a: there are no such kernels");
        return;
    }
    let device = TestDevice::install_as((9, 0));
    let mut cuda = device.open();
    if cuda.device().gpu().compute_capability != HOPPER {
        println!("not a Hopper: there are no such kernels");
        return;
    }
    let all: Vec<Format> = Format::ALL
        .into_iter()
        .filter(|&format| format != Format::F32)
        .collect();
    device.in_all(|what| {
        // Compares the bits of both kernels of each format and of each width.
        cuda.try_hopper();
        let report = device.take_report();
        assert_eq!(cuda.hopper_formats(), all, "{what}: {report:?}");
        let widths = cuda.hopper_widths();
        assert_eq!(widths, [64, 96, 128, 256], "{what}: {report:?}");
    });
    for op in ["matmul", "attention"] {
        assert_agrees("Hopper", op, &cuda, &reference_outputs(op));
        assert_rows_stand_alone("Hopper", op, &cuda);
    }
    attention_cases_have_the_bits_of_the_other_kernel(&device, &cuda);
    attention_layers_have_the_bits_of_the_other_kernel(&device, &cuda);
    assert_eq!(device.take_report(), None);
}

/// Every case of the registry, each in another schedule.
fn attention_cases_have_the_bits_of_the_other_kernel(device: &TestDevice, hopper: &Cuda) {
    let plain = device.open();
    for (index, case) in cases::<Cuda>("attention").iter().enumerate() {
        device.set_schedule(index);
        let [found, expected] =
            [hopper, &plain].map(|cuda| outputs("attention", case.as_ref(), cuda));
        let difference = first_difference(&found, &expected);
        assert_eq!(difference, None, "{case:?}, schedule {index}");
    }
}

/// What the registry has not, in every schedule: many lengths in one pass, beside the borders of
/// pages, of a warpgroup's lines and of splits; chunks after a cache; every size of group.
fn attention_layers_have_the_bits_of_the_other_kernel(device: &TestDevice, hopper: &Cuda) {
    let plain = device.open();
    let layer = |heads, mask| Layer::new(heads, mask, KvType::Bf16);
    let capped = Layer {
        soft_cap: Some(3.0),
        ..layer((4, 1, 96), Mask::Window(300))
    };
    let lengths = [17, 31, 32, 33, 63, 64, 65, 127, 128, 129];
    let one_pass = vec![lengths.into_iter().enumerate().collect()];
    let whole = vec![vec![(0, 600)]];
    let in_chunks = vec![
        vec![(0, 100)],
        vec![(0, 60)],
        vec![(0, 257)],
        vec![(0, 20), (1, 40)],
    ];
    let tests: [(Layer, &[usize], &Steps); 11] = [
        (layer((1, 1, 64), Mask::Causal), &lengths, &one_pass),
        (layer((8, 1, 64), Mask::Window(20)), &lengths, &one_pass),
        (
            layer((3, 3, 96), Mask::BlockCausal(33)),
            &lengths,
            &one_pass,
        ),
        (layer((4, 1, 256), Mask::Causal), &lengths, &one_pass),
        (layer((4, 1, 64), Mask::Causal), &[600], &whole),
        (layer((2, 1, 128), Mask::BlockCausal(100)), &[600], &whole),
        (layer((1, 1, 256), Mask::Window(270)), &[600], &whole),
        (capped, &[600], &whole),
        (layer((8, 1, 128), Mask::Causal), &[437, 40], &in_chunks),
        (layer((4, 4, 200), Mask::Window(5)), &[437, 40], &in_chunks),
        (
            layer((7, 1, 56), Mask::BlockCausal(4)),
            &[437, 40],
            &in_chunks,
        ),
    ];
    for (layer, lens, steps) in tests {
        let expected = run(&plain, &layer, lens, steps);
        assert!(expected.iter().flatten().all(|x| x.is_finite()));
        device.in_all(|what| {
            let found = run(hopper, &layer, lens, steps);
            for (sequence, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = first_difference(found, expected);
                assert_eq!(difference, None, "{layer:?}, sequence {sequence}, {what}");
            }
        });
    }
}
