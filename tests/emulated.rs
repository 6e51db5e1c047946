//! Every operation of the registry on the emulated device: the CUDA kernels themselves, under
//! every order of threads and both timings of asynchronous copies, held to the reference and to
//! the promise that a row's bits do not depend on its company.
//!
//! The same again under the address and undefined-behaviour sanitizers, in a process of its own
//! that has their runtime preloaded. On a GPU (ONWARD_TEST_GPU=1) each operation once.

use std::process::Command;

use onward_emulator::{Build, SCHEDULES, sanitised};
use onward_kernels::cuda::{Cuda, KvType};
use onward_kernels::ops::attend;
use onward_kernels::ops::attend::cases::AttendCase;
use onward_kernels::ops::gated::{Activation, Gated};
use onward_kernels::ops::matmul::cases::MatmulCase;
use onward_kernels::ops::moe_matmul::Input;
use onward_kernels::ops::moe_matmul::cases::{Load, MoeMatmulCase};
use onward_kernels::ops::registry::Prepared;
use onward_kernels::{Backend, Format};
use onward_tests::agreement::{
    assert_agrees, assert_rows_stand_alone, first_difference, ops, reference_outputs, run,
};
use onward_tests::device::TestDevice;

/// Names the build of the emulated device to the process that has the sanitizers.
const SANITISED: &str = "ONWARD_TEST_SANITISED";

fn agrees(op: &str) {
    // Which addresses are wrong does not depend on the order: one is enough there.
    let (build, schedules) = match std::env::var_os(SANITISED) {
        Some(_) => (Build::Sanitised, &SCHEDULES[..1]),
        None => (Build::Optimised, &SCHEDULES[..]),
    };
    let device = TestDevice::install_build(build);
    let cuda = device.open();
    let expected = reference_outputs(op);
    device.in_each(schedules, |what| assert_agrees(what, op, &cuda, &expected));
    assert_rows_stand_alone("the device", op, &cuda);
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
    attend,
    gated,
    logits,
    sample,
    moe_route,
    moe_matmul,
    moe_combine
);

#[test]
fn every_operation_is_tested() {
    let (mut listed, mut tested) = (ops(), TESTED.to_vec());
    listed.sort_unstable();
    tested.sort_unstable();
    assert_eq!(listed, tested);
}

/// The decode kernels take up to 8 tokens, the others blocks of 16, 32 and 64.
#[test]
fn a_token_of_a_matmul_has_the_same_bits_in_any_company() {
    let cuda = TestDevice::install().open();
    for format in Format::ALL {
        // Several slices of the columns, the last one longer, and a tile with rows missing.
        let whole = MatmulCase {
            parts: vec![(format, 33)],
            cols: 1280,
            n_rows: 512,
            norm: true,
            bias: false,
            soft_cap: None,
            gate: None,
            accumulate: false,
        };
        let expected = run("matmul", &whole, &cuda);
        for n_rows in [1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 200] {
            let case = MatmulCase {
                n_rows,
                ..whole.clone()
            };
            let difference = first_difference(&run("matmul", &case, &cuda), &expected);
            assert_eq!(difference, None, "{case:?}");
        }
    }
}

/// The same for a row at an expert, by kernels for up to 8, 32 and 64 places.
#[test]
fn a_row_of_a_mixture_has_the_same_bits_in_any_company() {
    let cuda = TestDevice::install().open();
    for format in Format::ALL {
        let whole = MoeMatmulCase {
            n_experts: 4,
            top_k: 2,
            parts: vec![(format, 33)],
            cols: 1280,
            input: Input::Rows,
            bias: true,
            load: Load::Chance,
            n_rows: 200,
        };
        let expected = run("moe_matmul", &whole, &cuda);
        for n_rows in [1, 8, 9, 64, 65] {
            let case = MoeMatmulCase {
                n_rows,
                ..whole.clone()
            };
            let difference = first_difference(&run("moe_matmul", &case, &cuda), &expected);
            assert_eq!(difference, None, "{case:?}");
        }
    }
}

/// As the product and [`Gated`] by themselves have; with a launch less where tiles allow it.
#[test]
fn a_gate_in_the_launch_of_its_product_has_the_bits_of_one_apart() {
    let cuda = TestDevice::install().open();
    for format in Format::ALL {
        // Tiles of gates and values in one block, in two, and with rows missing.
        for (width, cols) in [(32, 256), (80, 512), (48, 1280), (24, 256)] {
            for n_rows in [1, 8, 9, 33] {
                let products = MatmulCase {
                    parts: vec![(format, width), (format, width)],
                    cols,
                    n_rows,
                    norm: true,
                    bias: true,
                    soft_cap: Some(4.0),
                    gate: None,
                    accumulate: false,
                };
                let activation = [Activation::Silu, Activation::GeluTanh][n_rows % 2];
                let fused = MatmulCase {
                    gate: Some(activation),
                    ..products.clone()
                };
                let expected = gate_apart(&cuda, &products, activation);
                let difference = first_difference(&run("matmul", &fused, &cuda), &expected);
                assert_eq!(difference, None, "{fused:?}");
            }
        }
    }
}

/// The outputs of `products` gated by an operation of their own.
fn gate_apart(cuda: &Cuda, products: &MatmulCase, activation: Activation) -> Vec<f32> {
    let (n_rows, width) = (products.n_rows, products.parts[0].1);
    let gate_up = cuda.upload(&run("matmul", products, cuda)).unwrap();
    let mut out = cuda.buffer(n_rows * width).unwrap();
    cuda.gated(Gated {
        gate_up: &gate_up,
        n_rows,
        width,
        activation,
        out: &mut out,
    })
    .unwrap();
    let mut outputs = vec![0.0; n_rows * width];
    cuda.download(&out, 0..n_rows * width, &mut outputs)
        .unwrap();
    outputs
}

/// What a case of `attend` leaves, in one operation or in two: outputs, and the bytes of all pages
/// with those from before.
fn attended(cuda: &Cuda, case: &AttendCase, at_once: bool) -> (Vec<f32>, [Vec<u8>; 2]) {
    let mut arguments = case.arguments(cuda).unwrap();
    let before = arguments.kv().download(cuda).unwrap();
    let mut op = arguments.op();
    match at_once {
        true => cuda.attend(op).unwrap(),
        false => {
            cuda.rope_append(op.rope_append()).unwrap();
            cuda.attention(op.attention()).unwrap();
        }
    }
    let after = arguments.kv().download(cuda).unwrap();
    (arguments.outputs(cuda).unwrap(), [before, after])
}

/// Outputs and pages, in every byte that either way changed: what neither did is unknown on a GPU.
fn assert_attends_as_in_turn(cuda: &Cuda, case: &AttendCase, what: &str) {
    let (outputs, pages) = attended(cuda, case, true);
    let (expected, expected_pages) = attended(cuda, case, false);
    let difference = first_difference(&outputs, &expected);
    assert_eq!(difference, None, "{what}, {case:?}");
    let mut n_changed = 0;
    for i in 0..pages[0].len() {
        let is_changed = |[before, after]: &[Vec<u8>; 2]| before[i] != after[i];
        if is_changed(&pages) || is_changed(&expected_pages) {
            n_changed += 1;
            assert_eq!(
                pages[1][i], expected_pages[1][i],
                "{what}, {case:?}: byte {i} of the pages"
            );
        }
    }
    assert!(n_changed > 0, "{what}, {case:?} stores nothing");
}

#[test]
fn attend_has_the_bits_of_its_two_operations() {
    let device = TestDevice::install();
    for kv_type in [KvType::Bf16, KvType::Int8] {
        let cuda = device.open().with_kv(kv_type);
        for (index, case) in attend::cases::all().iter().enumerate() {
            device.set_schedule(index);
            assert_attends_as_in_turn(&cuda, case, &format!("{kv_type:?}"));
        }
    }
}

/// Steps of 1 to 64 sequences, whose rows are those of the largest.
#[test]
fn attend_has_the_bits_of_its_two_operations_for_every_batch() {
    let cuda = TestDevice::install().open();
    let cases = attend::cases::all();
    let large = cases
        .iter()
        .find(|case| case.sequences.len() == 64)
        .unwrap();
    let whole = run("attend", large, &cuda);
    for n_rows in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64] {
        let case = AttendCase {
            sequences: large.sequences[..n_rows].to_vec(),
            ..large.clone()
        };
        assert_attends_as_in_turn(&cuda, &case, "a step");
        let outputs = run("attend", &case, &cuda);
        assert_eq!(outputs.len(), whole.len() / 64 * n_rows);
        assert_eq!(first_difference(&outputs, &whole), None, "{n_rows} rows");
    }
}

#[test]
fn nothing_is_found_by_the_sanitizers() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("agrees::").env(SANITISED, "1");
    assert!(sanitised(&mut command), "the compiler has no sanitizers");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(&format!("{} passed", TESTED.len())),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
