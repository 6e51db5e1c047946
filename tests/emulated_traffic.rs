//! What the CUDA kernels move and issue, counted on the emulated device: snapshots of every
//! operation's kernels over all of its cases, and the bounds that hot kernels keep.
//!
//! The counting build also faults at accesses outside of allocations and at races in shared
//! memory, so this runs every case under that watch. `ONWARD_UPDATE_TRAFFIC=1` writes the snapshots.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use onward_emulator::{Build, Copies, Emulator, LaunchCounters, Order, SCHEDULES};
use onward_kernels::cuda::Cuda;
use onward_tests::agreement::{cases, ops};
use onward_tests::golden;

/// Launches of one kernel, summed up.
#[derive(Default)]
struct Sum {
    n_launches: usize,
    first: Option<LaunchCounters>,
}

impl Sum {
    fn add(&mut self, launch: LaunchCounters) {
        self.n_launches += 1;
        match &mut self.first {
            Some(first) => first.totals += launch.totals,
            None => self.first = Some(launch),
        }
    }
}

fn device() -> (Emulator, Cuda) {
    let emulator = Emulator::install(Build::Counted).unwrap();
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    (emulator, Cuda::open(0).unwrap())
}

/// One line a kernel: launches, then their totals.
fn snapshot(emulator: &Emulator, cuda: &Cuda, op: &str) -> Option<String> {
    let mut kernels: BTreeMap<String, Sum> = BTreeMap::new();
    for case in cases::<Cuda>(op) {
        let mut prepared = match case.prepare(cuda) {
            Err(error) if error.to_string().contains("no kernel") => return None,
            prepared => prepared.unwrap(),
        };
        emulator.take_counters();
        match prepared.launch(cuda) {
            Err(error) if error.to_string().contains("no kernel") => return None,
            launched => launched.unwrap(),
        }
        let finished = prepared.outputs(cuda);
        let report = emulator.take_report();
        assert!(
            finished.is_ok() && report.is_none(),
            "{op}, {case:?}: {report:?}"
        );
        for launch in emulator.take_counters() {
            kernels
                .entry(launch.kernel.clone())
                .or_default()
                .add(launch);
        }
    }
    let mut text = String::new();
    for sum in kernels.into_values() {
        let totals = sum
            .first
            .map(|launch| launch.to_string())
            .unwrap_or_default();
        writeln!(text, "{} launches of {totals}", sum.n_launches).unwrap();
    }
    Some(text)
}

#[test]
fn kernels_move_and_issue_what_they_did() {
    let (emulator, cuda) = device();
    let mut changed = String::new();
    for op in ops() {
        let started = std::time::Instant::now();
        let Some(text) = snapshot(&emulator, &cuda, op) else {
            continue;
        };
        println!("{op} ({:?}):\n{text}", started.elapsed());
        let path = golden(&format!("traffic/{op}.txt"));
        if std::env::var_os("ONWARD_UPDATE_TRAFFIC").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            let _ = writeln!(changed, "{op} is now\n{text}");
        }
    }
    assert!(
        changed.is_empty(),
        "{changed}\nif that is as it should be, set ONWARD_UPDATE_TRAFFIC=1"
    );
}

/// The races and bounds in the other orders, on every second case.
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
            if outcome.is_err_and(|error| error.to_string().contains("no kernel")) {
                break;
            }
        }
        emulator.take_counters();
    }
}
