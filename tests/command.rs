//! Running the `onward` command, and what became of it.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Whether it was still running after the time it was given, and was killed.
    pub timed_out: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// From its start to its end.
    pub elapsed: Duration,
    /// The most memory it had in RAM at a time, in bytes, mapped files included. Never less than
    /// what the test itself has had, whose memory a child has until it becomes another program.
    pub peak_memory: u64,
}

/// The `onward` command that was built beside this test.
///
/// # Panics
/// It has not been built.
pub fn onward() -> Command {
    let mut command = Command::new(beside("onward"));
    command.env("NO_COLOR", "1").env_remove("ONWARD_LOG");
    command
}

/// The program of this name that was built beside this test.
///
/// # Panics
/// It has not been built.
pub fn beside(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    // A test lies in target/<profile>/deps, and programs in target/<profile>.
    let profile = test
        .ancestors()
        .nth(2)
        .map(PathBuf::from)
        .unwrap_or_default();
    let program = profile.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is not there: `make suite` builds it",
        program.display()
    );
    program
}

/// The shared library of this name that was built beside this test.
///
/// # Panics
/// It has not been built.
pub fn beside_library(name: &str) -> PathBuf {
    beside(&format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"))
}

/// Runs a command to its end, or kills it after `limit`.
///
/// # Panics
/// The command cannot be started or waited for.
pub fn run(command: &mut Command, stdin: &str, limit: Duration) -> Ended {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let (mut to_child, text) = (child.stdin.take(), stdin.to_owned());
    // A command that fails does not read its input to the end; that is its right.
    let writer = thread::spawn(move || {
        to_child
            .as_mut()
            .map(|pipe| pipe.write_all(text.as_bytes()))
    });
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let (status, timed_out, peak_memory) = wait(&mut child, start + limit).expect("it is a child");
    let elapsed = start.elapsed();
    drop(writer.join());
    Ended {
        code: status.code(),
        timed_out,
        stdout: stdout.join().expect("reading does not panic"),
        stderr: stderr.join().expect("reading does not panic"),
        elapsed,
        peak_memory,
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end, by the one call that also says how much memory was used.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<(ExitStatus, bool, u64)> {
    let id = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut timed_out = false;
    loop {
        let mut status = 0;
        // SAFETY: `rusage` is a plain struct of integers, for which zeros are valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live values of the right type, and the child is waited
        // for here and nowhere else.
        let ended = unsafe { libc::wait4(id, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if ended < 0 {
            return Err(io::Error::last_os_error());
        }
        if ended == id {
            let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
            let peak = u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit;
            return Ok((ExitStatus::from_raw(status), timed_out, peak));
        }
        if !timed_out && Instant::now() > deadline {
            timed_out = true;
            child.kill()?;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
