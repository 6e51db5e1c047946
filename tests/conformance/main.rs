//! Every wrapper of `kernels/device/ptx.cuh`, `ptx_hopper.cuh` and `memory.cuh`, held to what the PTX ISA 9.0 says of
//! the instruction.
//!
//! On the emulated device this judges the twins of the wrappers, on a GPU (ONWARD_TEST_GPU=1) the
//! wrappers themselves. The expectations are written from the ISA's tables, not from the twins.

mod copies;
mod fragments;
mod matrices;
mod numbers;
mod warpgroups;
mod words;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use onward_kernels::cuda::conformance::{self, Trial};
use onward_tests::device::TestDevice;

/// Kernels that a test has run.
static TRIED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

/// The GPU, or the emulated device as a Hopper, which has all of the instructions.
fn device() -> TestDevice {
    TestDevice::install_as((9, 0))
}

/// The trials that can be run here: those of Hopper's instructions on a Hopper, by a program that
/// was built for it.
fn trials() -> Vec<Trial> {
    let cuda = device().open();
    let trials = conformance::TRIALS.into_iter();
    trials.filter(|trial| trial.is_for(&cuda)).collect()
}

/// What a kernel makes of words: once on a GPU, in every order on the emulated device, of which
/// all must agree.
fn run(kernel: &'static str, inputs: [&[u32]; 3]) -> Vec<u32> {
    TRIED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(kernel);
    let device = device();
    let cuda = device.open();
    let mut first = None;
    device.in_all(|what| {
        let output = conformance::run(&cuda, kernel, inputs).unwrap();
        let first = first.get_or_insert_with(|| output.clone());
        assert_eq!(output, *first, "{kernel} on {what}");
    });
    first.unwrap()
}

/// Words without a pattern.
fn noise(seed: u32, count: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..count).map(|_| next()).collect()
}

/// All in one test, so that the last line knows what was tried.
#[test]
fn every_wrapper_does_what_the_instruction_set_says() {
    matrices::mma_multiplies_exactly_what_is_exact();
    matrices::mma_takes_f16_subnormals_as_they_are();
    matrices::mma_rounds_sums_no_worse_than_single_precision();
    fragments::ldmatrix_hands_out_rows();
    copies::cp_async_copies_and_fills_with_zeros();
    copies::cp_async_wait_leaves_at_most_so_many_groups();
    words::named_barriers_keep_pairs_of_warps_apart();
    words::pairs_of_halves_are_rounded_once();
    words::packs_and_streaming_loads_move_their_words();

    numbers::philox_gives_the_known_answers();
    numbers::weights_and_keys_have_the_bits_of_the_cpu();
    numbers::shares_have_the_bits_of_the_cpu();
    numbers::sums_are_those_of_their_terms();

    let trials = trials();
    let all: BTreeSet<&str> = trials.iter().map(|trial| trial.kernel).collect();
    if all.contains("conformance_copy_bulk") {
        copies::bulk_copies_are_counted_by_the_barrier();
        words::registers_move_between_warpgroups();
        warpgroups::products_are_exact_where_they_can_be();
    }

    let tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*tried, all, "a trial without a test");
}

/// A wrapper that no trial calls is one that nothing holds to the ISA.
#[test]
fn every_wrapper_has_a_trial() {
    let kernels = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/device");
    let read = |name: &str| std::fs::read_to_string(format!("{kernels}/{name}")).unwrap();
    let trials = read("conformance/conformance.cu") + &read("conformance/conformance_hopper.cu");
    let headers = [
        "ptx.cuh",
        "ptx_hopper.cuh",
        "memory.cuh",
        "fixed.cuh",
        "philox.cuh",
        "reduce.cuh",
        "scan.cuh",
    ];
    for header in headers {
        let text = read(header);
        let names: Vec<&str> = text.lines().filter_map(wrapper).collect();
        assert!(!names.is_empty(), "{header} has no functions");
        for name in names {
            let called = ["(", "<", ","].map(|after| format!("{name}{after}"));
            assert!(
                called.iter().any(|call| trials.contains(call)),
                "{header}: {name} has no trial"
            );
        }
    }
}

/// The function that a line like `DEVICE void cp_async_4(uint32_t shared,` defines, or one like
/// `FROM_REGISTERS(warpgroup_mma_f16, "f16", 64,`.
fn wrapper(line: &str) -> Option<&str> {
    if let Some(arguments) = line.strip_prefix("FROM_REGISTERS(") {
        return arguments.split(',').next();
    }
    let (before, _) = line.strip_prefix("DEVICE ")?.split_once('(')?;
    before.split([' ', '*']).next_back()
}
