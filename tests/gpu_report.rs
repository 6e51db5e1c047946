//! `make gpu` on the emulated device: every section is in its report, every number finite, and what
//! fails is told and ends in exit code 1.
//!
//! The measurements are the real program's, with tiny shapes. The test programs are stand-ins, since
//! the suite runs the real ones by themselves.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onward_tests::command::{Ended, beside, run};
use serde_json::Value;

const SECTIONS: [&str; 13] = [
    "conformance",
    "ops",
    "memcheck",
    "racecheck",
    "bits",
    "hopper",
    "logits",
    "bandwidth",
    "cublas",
    "timings",
    "draw",
    "tiny bf16",
    "tiny q4_k",
];

/// What a sound test program says at its end.
const PASSES: &str = "echo 'test result: ok. 1 passed; 0 failed'";

/// A folder of programs: the real measurements, and test programs of which `conformance` is the
/// script given.
fn programs(conformance: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let scripts = ["emulated", "cuda_engine", "hopper"].map(|name| (name, PASSES));
    for (name, script) in [("conformance", conformance)].into_iter().chain(scripts) {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    symlink(beside("onward-gpu"), folder.path().join("onward-gpu")).unwrap();
    folder
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/gpu.py")
}

/// Runs the driver with these programs, and reads its report.
fn report(programs: &Path, more: &[&str]) -> (Ended, Value, String) {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg(script());
    command.args(["--device", "emulated", "--quick", "--programs"]);
    command
        .arg(programs)
        .arg("--out")
        .arg(out.path())
        .args(more);
    let ended = run(&mut command, "", Duration::from_secs(300));
    let read = |name: &str| std::fs::read_to_string(out.path().join(name));
    let json = read("report.json").unwrap_or_else(|e| panic!("{e}: {ended:?}"));
    let report = serde_json::from_str(&json).unwrap();
    (ended, report, read("report.md").unwrap())
}

fn section<'a>(report: &'a Value, name: &str) -> &'a Value {
    let sections = report["sections"].as_array().unwrap();
    let found = sections.iter().find(|section| section["name"] == name);
    found.unwrap_or_else(|| panic!("no section {name}"))
}

fn numbers(value: &Value, check: &mut impl FnMut(f64)) {
    match value {
        Value::Number(number) => check(number.as_f64().unwrap()),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, check)),
        Value::Object(values) => values.values().for_each(|value| numbers(value, check)),
        _ => {}
    }
}

#[test]
fn every_section_is_there_and_every_number_finite() {
    let programs = programs(PASSES);
    let (ended, report, text) = report(programs.path(), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(report["missing"].as_array().map(Vec::len), Some(0));
    let sections = report["sections"].as_array().unwrap();
    let names = (sections.iter()).map(|section| section["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), SECTIONS);
    let mut kinds = Vec::new();
    for section in sections {
        let name = section["name"].as_str().unwrap();
        let passed = section["status"] == "passed";
        assert!(passed || section["reason"].is_string(), "{section}");
        assert!(text.contains(&format!("| {name} |")), "{name}");
        for measurement in section["measurements"].as_array().unwrap() {
            kinds.extend(measurement["kind"].as_str());
            assert!(
                measurement["value"].as_f64().unwrap() >= 0.0,
                "{measurement}"
            );
            assert!(measurement["unit"].is_string(), "{measurement}");
        }
    }
    for name in ["bandwidth", "timings", "draw", "tiny bf16", "tiny q4_k"] {
        assert_eq!(section(&report, name)["status"], "passed", "{name}");
    }
    for kind in ["bandwidth", "op", "draw", "decode", "idle", "prefill"] {
        assert!(kinds.contains(&kind), "{kind} is missing");
    }
    let mut count = 0;
    numbers(&report, &mut |number| {
        assert!(number.is_finite());
        count += 1;
    });
    assert!(count > 200, "{count} numbers");
    assert!(text.contains("Times of an emulated device"));
    assert_eq!(report["machine"]["device"], "emulated");
}

/// Every operation of the registry is timed.
#[test]
fn every_operation_has_a_time() {
    let programs = programs(PASSES);
    let (_, report, _) = report(programs.path(), &["--sections", "timings,draw"]);
    let measurements = section(&report, "timings")["measurements"].as_array();
    let ops: Vec<_> = (measurements.unwrap().iter())
        .map(|measurement| measurement["op"].as_str().unwrap())
        .collect();
    let measured = |op: &str| ops.contains(&op);
    for op in onward_tests::agreement::ops() {
        // Drawing is a section of its own.
        assert!(measured(op) || op == "sample", "{op} has no time");
    }
    assert_eq!(section(&report, "draw")["status"], "passed");
    assert_eq!(
        section(&report, "conformance")["reason"],
        "was not asked for"
    );
}

#[test]
fn what_fails_is_told_and_ends_in_exit_code_1() {
    for (script, reason) in [
        ("echo 'lane 3 is 7, not 8'; exit 101", "exit code 101"),
        ("echo 'lane 3 is 7, not 8'; kill -SEGV $$", "signal 11"),
        (
            "echo 'lane 3 is 7, not 8'; echo 'test result: ok. 0 passed; 0 failed'",
            "no test was run",
        ),
    ] {
        let programs = programs(script);
        let (ended, report, text) = report(programs.path(), &["--sections", "conformance,bits"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("conformance"), "{ended:?}");
        let failed = section(&report, "conformance");
        assert_eq!(failed["status"], "failed");
        assert_eq!(failed["reason"], reason);
        assert!(text.contains("lane 3 is 7, not 8"), "{text}");
        assert_eq!(section(&report, "bits")["status"], "passed");
    }
}

#[test]
fn a_section_that_does_not_end_is_ended() {
    let programs = programs("sleep 100");
    let more = ["--sections", "conformance,bits", "--minutes", "0.05"];
    let (ended, report, _) = report(programs.path(), &more);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let reason = section(&report, "conformance")["reason"].as_str().unwrap();
    assert!(reason.contains("was not done after"), "{reason}");
    let reason = section(&report, "bits")["reason"].as_str().unwrap();
    assert!(reason.contains("used up"), "{reason}");
}

#[test]
fn without_a_gpu_it_is_one_sentence() {
    // The stand-in for the driver is not on the path that programs are given.
    let mut command = Command::new("python3");
    command.arg(script()).env_remove("LD_LIBRARY_PATH");
    if Path::new("/dev/nvidiactl").exists() {
        println!("this machine has a GPU");
        return;
    }
    let ended = run(&mut command, "", Duration::from_secs(30));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("no NVIDIA GPU"), "{ended:?}");
}

#[test]
fn times_of_an_emulated_device_are_no_results() {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/results/h100");
    let mut command = Command::new("python3");
    command
        .arg(script())
        .args(["--device", "emulated", "--out"])
        .arg(&results);
    let ended = run(&mut command, "", Duration::from_secs(30));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("are no results"), "{ended:?}");
    assert!(!results.exists());
}
