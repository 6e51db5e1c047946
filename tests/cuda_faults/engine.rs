//! Faults under an engine, which is dropped and made again in the same process.
//!
//! One device serves the whole process, so the tests take turns.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys;
use onward_emulator::{Build, Emulator, Fault, Properties};
use onward_engine::formats::ModelFile;
use onward_engine::{
    Engine, EngineOptions, Event, Health, Refusal, Request, Result, Service, ServiceOptions,
    Ticket, Update,
};
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::sample::SamplingParams;
use onward_tests::golden;

/// The device, for one test at a time.
struct Turn {
    emulator: Emulator,
    _lock: MutexGuard<'static, ()>,
}

fn turn() -> Turn {
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let emulator = Emulator::install(Build::Optimised).unwrap();
    emulator.spare();
    emulator.take_report();
    emulator.set_properties(Properties::default());
    Turn {
        emulator,
        _lock: lock,
    }
}

fn cuda() -> Cuda {
    Cuda::open(0).unwrap()
}

/// A tiny model.
fn load(cuda: Cuda) -> Result<Engine> {
    let file = ModelFile::open(&golden("families").join("gemma3"))?;
    let options = EngineOptions {
        n_ctx: Some(128),
        n_sequences: 1,
        chunk: 64,
        ..EngineOptions::default()
    };
    Engine::load(&file, cuda, &options, &mut |_| ())
}

/// Tokens drawn behind a prompt: a pass over it, then steps.
fn generate(engine: &mut Engine) -> Result<Vec<u32>> {
    let request = Request {
        sampling: SamplingParams {
            seed: 7,
            ..SamplingParams::default()
        },
        max_tokens: Some(24),
        ignore_eos: true,
        ..Request::new((1..20).collect())
    };
    let mut drawn = Vec::new();
    engine.generate(&request, &mut |event| {
        if let Event::Token(token) = event {
            drawn.push(token.id);
        }
        ControlFlow::Continue(())
    })?;
    Ok(drawn)
}

/// What the device has free.
fn free_bytes() -> usize {
    let (mut free, mut total) = (0, 0);
    // SAFETY: writes two numbers to places that live.
    unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }
        .result()
        .unwrap();
    free
}

/// One sentence, for the user's eyes.
#[track_caller]
fn assert_sentence(text: &str, parts: &[&str]) {
    assert!(!text.contains('\n') && text.len() < 300, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn every_allocation_of_loading_may_fail_and_leaves_nothing_behind() {
    let turn = turn();
    drop(load(cuda()).unwrap());
    let before = free_bytes();
    for fault in [Fault::Allocation, Fault::PinnedAllocation] {
        let mut n_failed = 0;
        for n_spared in 0.. {
            turn.emulator.fail_after(fault, n_spared);
            let loaded = load(cuda());
            if turn.emulator.spare() {
                loaded.unwrap();
                break;
            }
            let error = loaded.err().expect("an allocation failed").to_string();
            assert_sentence(&error, &["needs", "bytes, which this device cannot give"]);
            assert_eq!(free_bytes(), before, "{error}");
            n_failed += 1;
        }
        assert!(n_failed > 2, "{fault:?} struck {n_failed} times");
    }
}

#[test]
fn a_gpu_that_no_image_is_for_is_told_so() {
    let turn = turn();
    turn.emulator.set_properties(Properties {
        capability: (7, 5),
        ..Properties::default()
    });
    let error = load(cuda()).err().expect("no image").to_string();
    let parts = ["was not compiled for emulated device", "7.5", "sm_80"];
    assert_sentence(&error, &parts);
}

#[test]
fn steps_that_cannot_be_recorded_are_launched_and_draw_the_same() {
    let turn = turn();
    let expected = generate(&mut load(cuda()).unwrap()).unwrap();
    for loops in [true, false] {
        let faults = [Fault::Capture, Fault::CaptureMemory, Fault::Instantiation];
        for &fault in faults.iter().chain(loops.then_some(&Fault::Condition)) {
            let cuda = match loops {
                true => cuda(),
                false => cuda().without_loop(),
            };
            let mut engine = load(cuda).unwrap();
            turn.emulator.fail_next(fault);
            assert_eq!(generate(&mut engine).unwrap(), expected, "{fault:?}");
            assert!(!turn.emulator.spare(), "{fault:?} did not strike");
            assert_eq!(generate(&mut engine).unwrap(), expected, "{fault:?}");
        }
    }
}

/// A fault in the prompt's pass, in steps that are launched, and in steps that are replayed.
#[test]
fn a_kernel_that_fails_is_one_sentence_and_the_device_serves_again() {
    let turn = turn();
    let expected = generate(&mut load(cuda()).unwrap()).unwrap();
    // What fails when it is asked for has a name; what fails later is found by whoever asks next.
    for (fault, by) in [
        (Fault::Launch, "could not launch "),
        (Fault::Trap, "could not "),
    ] {
        for with_graphs in [true, false] {
            // A pass is about twenty launches.
            for n_spared in [0, 5, 30, 150] {
                let cuda = match with_graphs {
                    true => cuda(),
                    false => cuda().without_graphs(),
                };
                let mut engine = load(cuda).unwrap();
                if with_graphs {
                    // So that all steps are replays.
                    generate(&mut engine).unwrap();
                }
                turn.emulator.fail_after(fault, n_spared);
                let first = generate(&mut engine);
                if turn.emulator.spare() {
                    // Replays launch nothing.
                    assert!(with_graphs && fault == Fault::Launch && n_spared > 5);
                    assert_eq!(first.unwrap(), expected);
                    continue;
                }
                let first = first.unwrap_err().to_string();
                let said = "unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED)";
                assert_sentence(&first, &["a kernel failed on the GPU, so CUDA", by, said]);
                for _ in 0..2 {
                    let again = generate(&mut engine).unwrap_err().to_string();
                    assert_sentence(&again, &["a kernel failed on the GPU", said]);
                }
                drop(engine);
                assert_eq!(
                    generate(&mut load(self::cuda()).unwrap()).unwrap(),
                    expected
                );
            }
        }
    }
}

#[test]
fn a_device_that_stays_broken_is_told_when_it_is_opened() {
    let turn = turn();
    turn.emulator.set_properties(Properties {
        resets: false,
        ..Properties::default()
    });
    let mut engine = load(cuda()).unwrap();
    turn.emulator.fail_next(Fault::Trap);
    generate(&mut engine).unwrap_err();
    drop(engine);
    let error = Cuda::open(0).unwrap_err().to_string();
    let part = "a kernel failed on the GPU, so CUDA could not open GPU 0";
    assert_sentence(&error, &[part]);
    assert!(turn.emulator.take_report().is_some());
    load(cuda()).unwrap();
}

/// An engine holds on to the device it broke on; another one that was there before breaks too.
#[test]
fn two_engines_on_a_device_break_together() {
    let turn = turn();
    let (mut first, mut second) = (load(cuda()).unwrap(), load(cuda()).unwrap());
    turn.emulator.fail_next(Fault::Trap);
    generate(&mut first).unwrap_err();
    let error = generate(&mut second).unwrap_err().to_string();
    assert_sentence(&error, &["a kernel failed on the GPU"]);
    drop(first);
    assert!(Cuda::open(0).is_err(), "the second engine still holds it");
    drop(second);
    load(cuda()).unwrap();
}

/// The tokens of a request and how it ended.
fn hear(ticket: Ticket) -> (Vec<u32>, std::result::Result<(), String>) {
    let mut drawn = Vec::new();
    for update in ticket {
        match update {
            Update::Event(Event::Token(token)) => drawn.push(token.id),
            Update::Event(_) => {}
            Update::Finished(_) => return (drawn, Ok(())),
            Update::Failed(error) => return (drawn, Err(error.to_string())),
        }
    }
    panic!("a request came to no end");
}

/// A kernel that fails in flight takes all requests of its context with it, by one sentence each.
/// The engine is loaded again for those that come after; one that fails at once is not.
#[test]
fn a_service_outlives_its_engine() {
    let turn = turn();
    let expected = generate(&mut load(cuda()).unwrap()).unwrap();
    let request = Request {
        sampling: SamplingParams {
            seed: 7,
            ..SamplingParams::default()
        },
        max_tokens: Some(24),
        ignore_eos: true,
        ..Request::new((1..20).collect())
    };
    let engine = load(cuda()).unwrap();
    let reload = || load(Cuda::open(0).unwrap());
    let service = Service::restarting(engine, ServiceOptions::default(), reload);
    let ask = || service.stream(request.clone()).unwrap();
    assert_eq!(hear(ask()), (expected.clone(), Ok(())));

    turn.emulator.fail_next(Fault::Trap);
    let tickets = [ask(), ask(), ask()];
    let ends: Vec<_> = tickets.into_iter().map(hear).collect();
    assert!(
        ends.iter().any(|end| end.1.is_err()),
        "the fault did not strike"
    );
    for (drawn, end) in ends {
        match end {
            Ok(()) => assert_eq!(drawn, expected),
            Err(error) => assert_sentence(&error, &["a kernel failed on the GPU"]),
        }
    }
    // Whoever asks now waits for the new engine, and gets the same.
    assert_eq!(hear(ask()), (expected.clone(), Ok(())));
    assert!(service.wait_idle(std::time::Duration::from_secs(60)));
    assert_eq!(
        (service.health(), service.metrics().restarts),
        (Health::Ready, 1)
    );
    drop(service);

    let service = Service::restarting(load(cuda()).unwrap(), ServiceOptions::default(), || {
        load(Cuda::open(0).unwrap())
    });
    turn.emulator.fail_next(Fault::Trap);
    let error = hear(service.stream(request.clone()).unwrap())
        .1
        .unwrap_err();
    assert_sentence(&error, &["a kernel failed on the GPU"]);
    while !matches!(service.health(), Health::Failed(_)) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(matches!(service.stream(request), Err(Refusal::Failed(_))));
}
