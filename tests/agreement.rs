//! How a backend's outputs are held against the reference's.

use onward_kernels::ops::registry::{Case, Tolerance, registry};
use onward_kernels::{Backend, Reference};

/// Outputs from which the deviation of a case's errors is worth taking.
const MANY: usize = 256;
/// What the deviation of `MANY` errors may be above its expectation by chance.
const CHANCE: f64 = 1.3;
/// Set where only small cases are to run: under a checker that slows every access down.
const SMALL: &str = "ONWARD_TEST_SMALL";
/// Additions, multiplications and bytes of a small case.
const SMALL_COST: usize = 1 << 20;

/// Outputs of a case.
///
/// # Panics
/// If the backend fails.
pub fn run<B: Backend>(name: &str, case: &dyn Case<B>, backend: &B) -> Vec<f32> {
    case.run(backend)
        .unwrap_or_else(|error| panic!("{name} on {}, {case:?}: {error}", backend.name()))
}

/// The worst of `outputs`, if the tolerance forbids it.
///
/// # Errors
/// A sentence that says where and by how much.
pub fn verdict(
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

/// The names of all operations.
pub fn ops() -> Vec<&'static str> {
    let entries = registry::<Reference>();
    entries.iter().map(|entry| entry.name).collect()
}

/// The cases of the operation `op`.
///
/// # Panics
/// If the registry has no such operation.
pub fn cases<B: Backend>(op: &str) -> Vec<Box<dyn Case<B>>> {
    let entry = registry::<B>().into_iter().find(|entry| entry.name == op);
    let mut cases = entry.unwrap_or_else(|| panic!("no operation {op}")).cases;
    if std::env::var_os(SMALL).is_some() {
        cases.retain(|case| case.cost().flops.max(case.cost().bytes) <= SMALL_COST);
    }
    cases
}

/// The reference's outputs of each case of `op`.
pub fn reference_outputs(op: &str) -> Vec<Vec<f32>> {
    let reference = Reference::new();
    let cases = cases::<Reference>(op);
    let outputs = cases.iter().map(|case| run(op, case.as_ref(), &reference));
    outputs.collect()
}

/// Compares `backend` with `expected`, the reference's outputs of each case of `op`.
///
/// # Panics
/// If a case is out of its tolerance.
pub fn assert_agrees<B: Backend>(what: &str, op: &str, backend: &B, expected: &[Vec<f32>]) {
    let mut failures = Vec::new();
    for (case, expected) in cases(op).iter().zip(expected) {
        let outputs = run(op, case.as_ref(), backend);
        if let Err(error) = verdict(&outputs, expected, case.n_rows(), case.tolerance(backend)) {
            failures.push(format!("{op}, {case:?}: {error}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} cases fail on {what}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Runs every case of `op` whole, and its first rows alone; the common rows must have equal
/// bits.
///
/// # Panics
/// If they have not.
pub fn assert_rows_stand_alone<B: Backend>(what: &str, op: &str, backend: &B) {
    for case in cases::<B>(op) {
        let whole = run(op, case.as_ref(), backend);
        let width = whole.len() / case.n_rows();
        for n_rows in [1, 3, 8].into_iter().filter(|&n| n < case.n_rows()) {
            let first = run(op, case.first_rows(n_rows).as_ref(), backend);
            assert_eq!(first.len(), n_rows * width);
            if let Some(i) = first_difference(&first, &whole) {
                panic!(
                    "{op} on {what}, {case:?}: row {} column {} is {} with {n_rows} rows and {} \
                     with all",
                    i / width,
                    i % width,
                    first[i],
                    whole[i]
                );
            }
        }
    }
}

/// Where the bits of two arrays first differ, as far as both go.
pub fn first_difference(a: &[f32], b: &[f32]) -> Option<usize> {
    a.iter()
        .zip(b)
        .position(|(a, b)| a.to_bits() != b.to_bits())
}
