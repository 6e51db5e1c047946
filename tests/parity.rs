//! Every operation of the registry, on every backend, against the reference backend.
//!
//! Two things are held: outputs are within the operation's tolerance of the reference's, and a
//! row has the same bits whatever rows stand beside it and however many threads there are. The
//! second is promised exactly, so it is tested exactly.

use onward_kernels::cpu::Isa;
use onward_kernels::ops::registry::{Case, Entry, Tolerance, registry};
use onward_kernels::{Backend, Cpu, Reference};

/// Outputs from which the deviation of a case's errors is worth taking.
const MANY: usize = 256;
/// What the deviation of `MANY` errors may be above its expectation by chance.
const CHANCE: f64 = 1.3;

fn run<B: Backend>(name: &str, case: &dyn Case<B>, backend: &B) -> Vec<f32> {
    case.run(backend)
        .unwrap_or_else(|error| panic!("{name} on {}, {case:?}: {error}", backend.name()))
}

/// The worst of `outputs`, if the tolerance forbids it.
fn verdict(
    outputs: &[f32],
    expected: &[f32],
    n_rows: usize,
    tolerance: Tolerance,
) -> Result<(), String> {
    assert_eq!(outputs.len(), expected.len());
    let width = expected.len() / n_rows;
    let (deviation, floor) = (f64::from(tolerance.deviation), f64::from(tolerance.floor));
    let largest = deviation * f64::from(tolerance.largest);
    let mut squares = 0.0;
    for (row, (outputs, expected)) in outputs
        .chunks(width)
        .zip(expected.chunks(width))
        .enumerate()
    {
        let square: f64 = expected.iter().map(|&x| f64::from(x).powi(2)).sum();
        let magnitude = (square / width as f64).sqrt().max(floor);
        for (column, (&y, &x)) in outputs.iter().zip(expected).enumerate() {
            let error = (f64::from(y) - f64::from(x)) / magnitude;
            squares += error * error;
            if error.is_nan() || error.abs() > largest {
                return Err(format!(
                    "row {row}, column {column} is {y}, not {x}: off by {error:.1e} of the \
                     row's magnitude where the deviation is {deviation:.0e} ({})",
                    tolerance.reason
                ));
            }
        }
    }
    let measured = (squares / expected.len() as f64).sqrt();
    if expected.len() >= MANY && measured > CHANCE * deviation {
        return Err(format!(
            "the errors deviate by {measured:.1e}, not {deviation:.0e} ({})",
            tolerance.reason
        ));
    }
    Ok(())
}

/// Compares `backend` with `expected`, the reference's outputs of every case.
fn assert_agrees<B: Backend>(what: &str, backend: &B, expected: &[Vec<Vec<f32>>]) {
    let mut failures = Vec::new();
    for (Entry { name, cases }, expected) in registry::<B>().iter().zip(expected) {
        for (case, expected) in cases.iter().zip(expected) {
            let outputs = run(name, case.as_ref(), backend);
            if let Err(error) = verdict(&outputs, expected, case.n_rows(), case.tolerance()) {
                failures.push(format!("{name}, {case:?}: {error}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases fail on {what}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn reference_outputs() -> Vec<Vec<Vec<f32>>> {
    let reference = Reference::new();
    let outputs = |Entry { name, cases }: &Entry<Reference>| {
        let cases = cases.iter();
        cases
            .map(|case| run(name, case.as_ref(), &reference))
            .collect()
    };
    registry().iter().map(outputs).collect()
}

/// Runs every case whole, and its first rows alone; the common rows must have equal bits.
fn assert_rows_stand_alone<B: Backend>(what: &str, backend: &B) {
    for Entry { name, cases } in registry::<B>() {
        for case in cases {
            let whole = run(name, case.as_ref(), backend);
            let width = whole.len() / case.n_rows();
            for n_rows in [1, 3, 8].into_iter().filter(|&n| n < case.n_rows()) {
                let first = run(name, case.first_rows(n_rows).as_ref(), backend);
                assert_eq!(first.len(), n_rows * width);
                if let Some(i) = first_difference(&first, &whole) {
                    panic!(
                        "{name} on {what}, {case:?}: row {} column {} is {} with {n_rows} rows \
                         and {} with all",
                        i / width,
                        i % width,
                        first[i],
                        whole[i]
                    );
                }
            }
        }
    }
}

/// Where the bits of two arrays first differ, as far as both go.
fn first_difference(a: &[f32], b: &[f32]) -> Option<usize> {
    a.iter()
        .zip(b)
        .position(|(a, b)| a.to_bits() != b.to_bits())
}

#[test]
fn reference_rows_stand_alone() {
    assert_rows_stand_alone("reference", &Reference::new());
}

#[test]
fn reference_does_not_depend_on_threads() {
    let with_threads = |n| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap()
            .install(reference_outputs)
    };
    let (one, three) = (with_threads(1), with_threads(3));
    for (one, three) in one.iter().flatten().zip(three.iter().flatten()) {
        assert_eq!(one.len(), three.len());
        assert_eq!(first_difference(one, three), None);
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
    let expected = reference_outputs();
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        assert_agrees(&format!("cpu ({})", isa.name()), &cpu, &expected);
    }
}

#[test]
fn cpu_rows_stand_alone() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        assert_rows_stand_alone(&format!("cpu ({})", isa.name()), &cpu);
    }
}

#[test]
fn cpu_does_not_depend_on_threads() {
    for isa in Isa::available() {
        let [one, three] = [1, 3].map(|n| Cpu::with_isa(n, isa).unwrap());
        for Entry { name, cases } in registry::<Cpu>() {
            for case in cases {
                let [one, three] = [&one, &three].map(|cpu| run(name, case.as_ref(), cpu));
                assert_eq!(one.len(), three.len());
                let difference = first_difference(&one, &three);
                assert_eq!(difference, None, "{name} on {}, {case:?}", isa.name());
            }
        }
    }
}
