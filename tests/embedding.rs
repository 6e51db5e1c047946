//! Onward inside other programs: the C interface, by its header, by an example that runs under the
//! address sanitizer and by its errors; and the example in Rust.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::time::Duration;

use onward_c::{
    OnwardEngine, OnwardEvent, OnwardEventKind, OnwardFinish, OnwardRequest, OnwardStatus,
    onward_cancel, onward_create, onward_default_options, onward_default_sampling, onward_free,
    onward_last_error, onward_poll, onward_release, onward_submit,
};
use onward_engine::{EngineOptions, Event, Request};
use onward_kernels::Cpu;
use onward_kernels::ops::sample::SamplingParams;
use onward_tests::{command, golden, load};

const LIMIT: Duration = Duration::from_secs(120);

fn interface() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/c")
}

/// `ONWARD_UPDATE_HEADER=1` writes it anew.
#[test]
fn the_header_says_what_the_library_does() {
    let mut builder = cbindgen::Builder::new().with_config(cbindgen::Config {
        language: cbindgen::Language::C,
        include_guard: Some("ONWARD_H".to_owned()),
        cpp_compat: true,
        usize_is_size_t: true,
        header: Some("// Onward for C. cbindgen makes this file from cli/c/*.rs.".to_owned()),
        enumeration: cbindgen::EnumConfig {
            rename_variants: cbindgen::RenameRule::QualifiedScreamingSnakeCase,
            ..Default::default()
        },
        ..Default::default()
    });
    for name in ["status.rs", "handles.rs", "requests.rs"] {
        builder = builder.with_src(interface().join(name));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let path = interface().join("onward.h");
    if std::env::var_os("ONWARD_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known.as_bytes() == made,
        "cli/c/onward.h is not what cbindgen makes: ONWARD_UPDATE_HEADER=1 writes it"
    );
}

/// The greedy completion of 24 tokens of a tiny model.
fn expected(prompt: &str) -> String {
    let options = EngineOptions {
        n_ctx: Some(256),
        ..EngineOptions::default()
    };
    let mut engine = load(&model(), Cpu::new(1).unwrap(), &options);
    let request = Request {
        max_tokens: Some(24),
        ignore_eos: true,
        sampling: SamplingParams {
            temperature: 0.0,
            ..engine.default_sampling().clone()
        },
        ..Request::new(engine.tokenizer().encode(prompt, true).unwrap())
    };
    let mut text = String::new();
    let listener = &mut |event| {
        if let Event::Token(token) = event {
            text.push_str(&token.text);
        }
        ControlFlow::Continue(())
    };
    let tail = engine.generate(&request, listener).unwrap().tail;
    text + &tail
}

fn model() -> PathBuf {
    golden("families").join("llama")
}

#[test]
fn the_example_in_c_runs_under_the_address_sanitizer() {
    let library = command::beside_library("onward_c");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("example");
    let compiled = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
        .args([
            "-std=c11",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsanitize=address,undefined",
        ])
        .arg("-I")
        .arg(interface())
        .arg(interface().join("example.c"))
        .arg(&library)
        .arg(format!(
            "-Wl,-rpath,{}",
            library.parent().unwrap().display()
        ))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{said}");

    let mut example = Command::new(&program);
    let ended = command::run(example.arg(model()).arg("ab"), "", LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("{}\n24 tokens\n", expected("ab")));
    assert_eq!(ended.stderr, "");

    let mut example = Command::new(&program);
    let ended = command::run(example.arg("no/such/model").arg("ab"), "", LIMIT);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .starts_with("could not load the model: no/such/model"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_example_in_rust_completes_a_text() {
    let mut example = Command::new(command::beside("examples/complete"));
    let ended = command::run(example.arg(model()).arg("ab"), "", LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.len() > 1 && ended.stdout.ends_with('\n'));
}

fn last_error() -> String {
    // SAFETY: the text lasts until this thread's next call.
    let text = unsafe { CStr::from_ptr(onward_last_error()) };
    text.to_str().unwrap().to_owned()
}

/// A failed call, and why it failed.
fn told(status: OnwardStatus) -> (OnwardStatus, String) {
    (status, last_error())
}

/// A tiny model that serves one request at a time.
fn create() -> *mut OnwardEngine {
    let path = CString::new(model().to_str().unwrap()).unwrap();
    let options = onward_c::OnwardOptions {
        n_ctx: 100_000,
        max_queue: 1,
        n_threads: 1,
        ..onward_default_options()
    };
    let mut engine = ptr::null_mut();
    // SAFETY: all pointers are good.
    let status = unsafe { onward_create(path.as_ptr(), &options, &mut engine) };
    assert_eq!(status, OnwardStatus::Ok, "{}", last_error());
    engine
}

fn submit(engine: *mut OnwardEngine, max_tokens: usize) -> (OnwardStatus, *mut OnwardRequest) {
    let mut request = ptr::null_mut();
    // SAFETY: all pointers are good.
    let status = unsafe {
        let mut sampling = std::mem::MaybeUninit::uninit();
        assert_eq!(
            onward_default_sampling(engine, sampling.as_mut_ptr()),
            OnwardStatus::Ok
        );
        let mut sampling = sampling.assume_init();
        sampling.max_tokens = max_tokens;
        sampling.ignore_eos = true;
        onward_submit(engine, c"ab".as_ptr(), &sampling, &mut request)
    };
    (status, request)
}

/// The last event of a request, and how many tokens came before.
fn end(request: *mut OnwardRequest) -> (usize, OnwardEvent) {
    let mut n_tokens = 0;
    loop {
        let mut event = std::mem::MaybeUninit::<OnwardEvent>::uninit();
        // SAFETY: all pointers are good, and the event is written where the call succeeds.
        let event = unsafe {
            let status = onward_poll(request, 60_000, event.as_mut_ptr());
            assert_eq!(status, OnwardStatus::Ok, "{}", last_error());
            event.assume_init()
        };
        match event.kind {
            OnwardEventKind::Token => n_tokens += 1,
            OnwardEventKind::Finished | OnwardEventKind::Failed => return (n_tokens, event),
            OnwardEventKind::None | OnwardEventKind::Prefill => {}
        }
    }
}

#[test]
fn requests_wait_are_refused_and_are_cancelled() {
    let engine = create();
    let (status, endless) = submit(engine, 0);
    assert_eq!(status, OnwardStatus::Ok);
    let (status, waiting) = submit(engine, 3);
    assert_eq!(status, OnwardStatus::Ok);
    let (status, refused) = submit(engine, 3);
    assert_eq!(status, OnwardStatus::QueueFull);
    assert!(refused.is_null());
    assert!(last_error().contains("waiting already"), "{}", last_error());

    // SAFETY: the requests and the engine are good, and freed once.
    unsafe {
        assert_eq!(onward_cancel(endless), OnwardStatus::Ok);
        assert_eq!(end(endless).1.finish, OnwardFinish::Cancelled);
        let (n_tokens, event) = end(waiting);
        assert_eq!(
            (n_tokens, event.done, event.finish),
            (3, 3, OnwardFinish::Length)
        );
        let mut event = std::mem::MaybeUninit::uninit();
        assert_eq!(
            onward_poll(waiting, 0, event.as_mut_ptr()),
            OnwardStatus::Ended
        );
        assert_eq!(last_error(), "the request has ended");
        onward_release(endless);
        onward_free(engine);
        // A request may outlive its engine's handle.
        onward_release(waiting);
        onward_release(ptr::null_mut());
        onward_free(ptr::null_mut());
    }
}

#[test]
fn what_is_no_argument_is_said_to_be_none() {
    let engine = create();
    let mut place = ptr::null_mut();
    let mut request = ptr::null_mut();
    let odd = CString::new(vec![0xff, 0xfe]).unwrap();
    let device = onward_c::OnwardOptions {
        device: c"tpu".as_ptr(),
        ..onward_default_options()
    };
    let path = CString::new(model().to_str().unwrap()).unwrap();
    // SAFETY: pointers are null or good.
    unsafe {
        for (status, said) in [
            (
                told(onward_create(ptr::null(), ptr::null(), &mut place)),
                "the path is null",
            ),
            (
                told(onward_create(odd.as_ptr(), ptr::null(), &mut place)),
                "the path is not UTF-8",
            ),
            (
                told(onward_create(path.as_ptr(), ptr::null(), ptr::null_mut())),
                "the place for the engine is null",
            ),
            (
                told(onward_create(path.as_ptr(), &device, &mut place)),
                "there is no device tpu: cpu, cuda, cuda:N or reference is wanted",
            ),
            (
                told(onward_submit(
                    ptr::null(),
                    c"a".as_ptr(),
                    ptr::null(),
                    &mut request,
                )),
                "the engine is null",
            ),
            (
                told(onward_submit(
                    engine,
                    ptr::null(),
                    ptr::null(),
                    &mut request,
                )),
                "the prompt is null",
            ),
            (
                told(onward_submit(
                    engine,
                    c"a".as_ptr(),
                    ptr::null(),
                    ptr::null_mut(),
                )),
                "the place for the request is null",
            ),
            (told(onward_cancel(ptr::null_mut())), "the request is null"),
            (
                told(onward_poll(ptr::null_mut(), 0, ptr::null_mut())),
                "the request is null",
            ),
        ] {
            assert_eq!(status, (OnwardStatus::InvalidArgument, said.to_owned()));
        }
        assert!(place.is_null() && request.is_null());

        let long = CString::new("ab ".repeat(200_000)).unwrap();
        let status = onward_submit(engine, long.as_ptr(), ptr::null(), &mut request);
        assert_eq!(status, OnwardStatus::InvalidRequest);
        assert!(
            last_error().contains("the context holds 100000"),
            "{}",
            last_error()
        );
        onward_free(engine);
    }
}
