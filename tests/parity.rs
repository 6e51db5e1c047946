//! Every operation of the registry, on every backend, against the reference backend.
//!
//! Two things are held: outputs are within the operation's tolerance of the reference's, and a
//! row has the same bits whatever rows stand beside it and however many threads there are. The
//! second is promised exactly, so it is tested exactly.

use onward_kernels::cpu::Isa;
use onward_kernels::ops::registry::Tolerance;
use onward_kernels::{Cpu, Reference};
use onward_tests::agreement::{
    assert_agrees, assert_rows_stand_alone, cases, first_difference, ops, reference_outputs, run,
    verdict,
};

#[test]
fn reference_rows_stand_alone() {
    for op in ops() {
        assert_rows_stand_alone("reference", op, &Reference::new());
    }
}

#[test]
fn reference_does_not_depend_on_threads() {
    let with_threads = |n, op| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap()
            .install(|| reference_outputs(op))
    };
    for op in ops() {
        let (one, three) = (with_threads(1, op), with_threads(3, op));
        for (one, three) in one.iter().zip(&three) {
            assert_eq!(one.len(), three.len());
            assert_eq!(first_difference(one, three), None, "{op}");
        }
    }
}

/// The measure must see what it is there for: one output off, all of them slightly off, NaN.
#[test]
fn faults_are_seen() {
    let tolerance = Tolerance {
        deviation: 1e-3,
        largest: 6.0,
        floor: 1.0,
        reason: "",
    };
    let expected: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
    let verdict = |change: fn(usize, f32) -> f32| {
        let changed: Vec<f32> = (0..).zip(&expected).map(|(i, &x)| change(i, x)).collect();
        verdict(&changed, &expected, 10, tolerance)
    };
    assert!(verdict(|_, x| x + 1e-3).is_ok());
    assert!(verdict(|_, x| x * 1.003).is_err());
    assert!(verdict(|i, x| if i == 77 { x + 0.01 } else { x }).is_err());
    assert!(verdict(|i, x| if i == 999 { f32::NAN } else { x }).is_err());
}

#[test]
fn cpu_agrees_with_the_reference() {
    for op in ops() {
        let expected = reference_outputs(op);
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(2, isa).unwrap();
            assert_agrees(&format!("cpu ({})", isa.name()), op, &cpu, &expected);
        }
    }
}

#[test]
fn cpu_rows_stand_alone() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        for op in ops() {
            assert_rows_stand_alone(&format!("cpu ({})", isa.name()), op, &cpu);
        }
    }
}

#[test]
fn cpu_does_not_depend_on_threads() {
    for isa in Isa::available() {
        let [one, three] = [1, 3].map(|n| Cpu::with_isa(n, isa).unwrap());
        for op in ops() {
            for case in cases(op) {
                let [one, three] = [&one, &three].map(|cpu| run(op, case.as_ref(), cpu));
                assert_eq!(one.len(), three.len());
                let difference = first_difference(&one, &three);
                assert_eq!(difference, None, "{op} on {}, {case:?}", isa.name());
            }
        }
    }
}
