//! What the CUDA kernels move and issue, counted on the emulated device: snapshots of every
//! operation's kernels over all of its cases.
//!
//! The counting build also faults at accesses outside of allocations and at races in shared
//! memory, so this runs every case under that watch. `ONWARD_UPDATE_TRAFFIC=1` writes the snapshots.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use onward_emulator::{Build, Copies, Emulator, Order, SCHEDULES, Totals};
use onward_kernels::cuda::Cuda;
use onward_tests::agreement::{cases, ops};
use onward_tests::golden;

/// How far a number may be from its snapshot: what else the host's compiler puts together.
const SLACK: f64 = 0.02;

fn device() -> (Emulator, Cuda) {
    let emulator = Emulator::install(Build::Counted).unwrap();
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    (emulator, Cuda::open(0).unwrap())
}

/// One line a kernel: how often it was launched, and the totals of that. The launches that prepare
/// the arguments, such as those that re-tile weights, count too.
fn traffic(emulator: &Emulator, cuda: &Cuda, op: &str) -> String {
    let mut kernels: BTreeMap<String, (usize, Totals)> = BTreeMap::new();
    for case in cases::<Cuda>(op) {
        emulator.take_counters();
        let mut prepared = case.prepare(cuda).unwrap();
        prepared.launch(cuda).unwrap();
        let finished = prepared.outputs(cuda);
        let report = emulator.take_report();
        assert!(report.is_none(), "{op}, {case:?}: {report:?}");
        finished.unwrap();
        for launch in emulator.take_counters() {
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
fn agree(a: &str, b: &str) -> bool {
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

#[test]
fn a_snapshot_that_differs_is_seen() {
    let line = "gated x 3: memory 1000/500 B, loads [0, 0, 7, 0, 3]";
    assert!(agree(line, &line.replace("1000", "1010")));
    assert!(!agree(line, &line.replace("1000", "2000")));
    assert!(!agree(line, &line.replace("7", "8")));
    assert!(!agree(line, &line.replace("gated", "other")));
    assert!(!agree(line, ""));
}

#[test]
fn kernels_move_and_issue_what_they_did() {
    let (emulator, cuda) = device();
    let mut changed = String::new();
    for op in ops() {
        let found = traffic(&emulator, &cuda, op);
        println!("{op}:\n{found}");
        let path = golden(&format!("traffic/{op}.txt"));
        if std::env::var_os("ONWARD_UPDATE_TRAFFIC").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let held = std::fs::read_to_string(&path).unwrap_or_default();
        if !agree(&held, &found) {
            let _ = writeln!(changed, "{op} was\n{held}and is\n{found}");
        }
    }
    assert!(
        changed.is_empty(),
        "{changed}if that is as it should be, run again with ONWARD_UPDATE_TRAFFIC=1"
    );
}

/// The same watch in the other orders, one a case.
#[test]
fn no_order_shows_a_race() {
    let (emulator, cuda) = device();
    for op in ops() {
        for (index, case) in cases::<Cuda>(op).iter().enumerate() {
            let (order, copies) = SCHEDULES[1 + index % (SCHEDULES.len() - 1)];
            emulator.set_schedule(order, copies);
            let outcome = case.run(&cuda);
            let report = emulator.take_report();
            assert!(report.is_none(), "{op}, {case:?}: {report:?}");
            outcome.unwrap();
        }
        emulator.take_counters();
    }
}
