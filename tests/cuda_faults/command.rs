//! Faults as someone at a terminal meets them: one line on stderr and exit code 1, or the text.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use onward_emulator::VARIABLE;
use onward_tests::{command, golden};

/// Long enough for a tiny model on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Generates a few tokens with a tiny model on a device where `wishes` come true.
fn generate(device: &str, wishes: &str) -> Command {
    let mut command = command::onward();
    command
        .args(["generate", "-m"])
        .arg(golden("families").join("llama"))
        .args(["-c", "128", "-n", "24", "--seed", "5", "--ignore-eos"])
        .args(["--device", device, "ab"])
        .env(VARIABLE, wishes);
    command
}

/// The lines on stderr but for the figures, and stdout.
fn outcome(device: &str, wishes: &str) -> (Option<i32>, Vec<String>, String) {
    let ended = command::run(&mut generate(device, wishes), "", LIMIT);
    assert!(!ended.timed_out, "{wishes}: {}", ended.stderr);
    let without = "this build has no emulated device";
    assert!(
        !ended.stderr.contains(without),
        "build it with `cargo build -p onward --features emulated`"
    );
    let lines = ended.stderr.lines();
    let lines = lines.filter(|line| !line.contains("tok/s"));
    (ended.code, lines.map(str::to_owned).collect(), ended.stdout)
}

#[test]
fn each_fault_is_one_line_and_exit_code_1() {
    for (wishes, said) in [
        (
            "driver:12.4",
            "the CUDA driver is too old: it supports CUDA 12.4",
        ),
        ("capability:7.5", "was not compiled for emulated device"),
        ("allocation:5", "which this device cannot give"),
        ("pinned-allocation:0", "which this device cannot give"),
        (
            "launch:0",
            "a kernel failed on the GPU, so CUDA could not launch",
        ),
        ("trap:3", "a kernel failed on the GPU"),
        ("trap:400", "a kernel failed on the GPU"),
        ("noise:1", "ONWARD_EMULATED says noise:1"),
    ] {
        let (code, lines, _) = outcome("emulated", wishes);
        assert_eq!(code, Some(1), "{wishes}: {lines:?}");
        assert!(
            lines.len() == 1 && lines[0].contains(said),
            "{wishes}: {lines:?}"
        );
    }
}

/// Steps go on the next simpler way, one warning for each that is given up.
#[test]
fn without_a_loop_or_graphs_there_is_a_warning_and_the_same_text() {
    let (code, lines, text) = outcome("emulated", "");
    assert_eq!((code, lines.as_slice()), (Some(0), &[][..]));
    assert!(!text.is_empty());
    let (no_loop, no_graphs) = (
        "decoding without a loop on the GPU",
        "decoding without CUDA graphs",
    );
    for (wishes, warnings) in [
        ("condition:0", &[no_loop][..]),
        ("instantiation:0", &[no_loop]),
        ("condition:0 capture:0", &[no_loop, no_graphs]),
        ("condition:0 capture-memory:0", &[no_loop, no_graphs]),
        ("condition:0 instantiation:0", &[no_loop, no_graphs]),
    ] {
        let (code, lines, same) = outcome("emulated", wishes);
        assert_eq!((code, same), (Some(0), text.clone()), "{wishes}");
        assert_eq!(lines.len(), warnings.len(), "{wishes}: {lines:?}");
        let said = lines.iter().zip(warnings);
        for (line, warning) in said {
            assert!(line.contains(warning), "{wishes}: {lines:?}");
        }
    }
}

#[test]
fn a_machine_without_a_driver_is_told_so() {
    // Another process finds out whether this is one: in this one the stand-in may be loaded.
    let doctor = command::run(command::onward().args(["doctor", "--json"]), "", LIMIT);
    let diagnosis: serde_json::Value = serde_json::from_str(&doctor.stdout).expect("JSON");
    let Some(problem) = diagnosis["gpu"]["problem"].as_str() else {
        return;
    };
    let (code, lines, _) = outcome("cuda", "");
    assert_eq!(code, Some(1));
    assert!(
        lines.len() == 1 && lines[0].contains(problem),
        "{problem}: {lines:?}"
    );
}

fn interrupt(child: &Child) {
    let id = child.id().to_string();
    let status = Command::new("kill").args(["-INT", &id]).status();
    assert!(status.expect("kill runs").success());
}

/// Waits for the end; the exit code.
fn end(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().expect("it is a child") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("the child can be killed");
    panic!("it did not end");
}

/// A launch of loading, one of the prompt's pass, and a recorded step that never end.
#[test]
fn a_device_that_never_answers_can_be_left() {
    for wishes in ["hang:2", "hang:25", "hang:60"] {
        let mut child = generate("emulated", wishes)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        // By then it waits; where it is slower, the first signal ends it just as well.
        std::thread::sleep(Duration::from_secs(5));
        let ended = child.try_wait().expect("it is a child");
        assert!(ended.is_none(), "{wishes}: it did not hang");
        interrupt(&child);
        std::thread::sleep(Duration::from_millis(200));
        let ended = child.try_wait().expect("it is a child");
        if ended.is_none() {
            interrupt(&child);
        }
        assert_eq!(end(&mut child), Some(130), "{wishes}");
    }
}
