//! What kernels move and issue, as the counting build of the emulated device has it, and the
//! snapshots that are kept of it in `golden/traffic`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use onward_emulator::{Emulator, Totals};
use onward_kernels::cuda::Cuda;

use crate::agreement::cases;
use crate::golden;

/// How far a number may be from its snapshot: what else the host's compiler puts together.
const SLACK: f64 = 0.02;

/// One line a kernel of which `is_counted` says so by its name: how often it was launched in the
/// operation's cases, and the totals of that. The launches that prepare the arguments, such as those
/// that re-tile weights, count too.
///
/// # Panics
/// If a case fails.
pub fn launched(
    emulator: &Emulator,
    cuda: &Cuda,
    op: &str,
    is_counted: impl Fn(&str) -> bool,
) -> String {
    let mut kernels: BTreeMap<String, (usize, Totals)> = BTreeMap::new();
    for case in cases::<Cuda>(op) {
        emulator.take_counters();
        let mut prepared = case.prepare(cuda).unwrap();
        prepared.launch(cuda).unwrap();
        let finished = prepared.outputs(cuda);
        let report = emulator.take_report();
        assert!(report.is_none(), "{op}, {case:?}: {report:?}");
        finished.unwrap();
        let launches = emulator.take_counters().into_iter();
        for launch in launches.filter(|launch| is_counted(&launch.kernel)) {
            let (n_launches, totals) = kernels.entry(launch.kernel).or_default();
            *n_launches += 1;
            *totals += launch.totals;
        }
    }
    let mut text = String::new();
    for (kernel, (n_launches, totals)) in kernels {
        writeln!(text, "{kernel} x {n_launches}: {totals}").unwrap();
    }
    text
}

/// Whether two snapshots have the same words and numbers that are close.
pub fn agree(a: &str, b: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let is_break = |c: char| c.is_whitespace() || "/,[]:%".contains(c);
        let words = text.split(is_break).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let (a, b) = (words(a), words(b));
    a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| {
            let numbers = (a.parse::<f64>(), b.parse::<f64>());
            let close = |a: f64, b: f64| (a - b).abs() <= SLACK * a.abs().max(b.abs());
            a == b || matches!(numbers, (Ok(a), Ok(b)) if close(a, b))
        })
}

/// How `found` differs from the snapshot `name`, in words; with `ONWARD_UPDATE_TRAFFIC` set it
/// becomes the snapshot.
///
/// # Panics
/// If it cannot be written.
pub fn differences(name: &str, found: &str) -> String {
    let path = golden(&format!("traffic/{name}.txt"));
    if std::env::var_os("ONWARD_UPDATE_TRAFFIC").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    if agree(&held, found) {
        return String::new();
    }
    format!(
        "{name} was\n{held}and is\n{found}if that is as it should be, run again with \
         ONWARD_UPDATE_TRAFFIC=1\n"
    )
}
