//! The memory plan of a GPU, held against what the emulated device says is used.
//!
//! One device serves the whole process, so the tests take turns.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys;
use onward_emulator::{Build, Emulator, Fault, Properties};
use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Request, Result, memory_plan};
use onward_kernels::cuda::{self, Cuda, KvType};
use onward_kernels::memory::MemoryPlan;
use onward_kernels::ops::sample::SamplingParams;
use onward_kernels::{Backend, Format, MatrixSource};
use onward_tests::golden;

/// The device, for one test at a time.
fn turn() -> (Emulator, MutexGuard<'static, ()>) {
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let emulator = Emulator::install(Build::Optimised).unwrap();
    emulator.spare();
    emulator.set_properties(Properties::default());
    (emulator, lock)
}

fn file(family: &str) -> ModelFile {
    ModelFile::open(&golden("families").join(family)).unwrap()
}

fn load(file: &ModelFile, kv_type: KvType, options: &EngineOptions) -> Result<Engine> {
    let cuda = Cuda::open(0).unwrap().with_kv(kv_type);
    Engine::load(file, cuda, options, &mut |_| ())
}

fn plan(file: &ModelFile, kv_type: KvType, options: &EngineOptions) -> MemoryPlan {
    memory_plan(file, options, |model| cuda::plan(kv_type, model)).unwrap()
}

/// What the device has free once all its work is done.
fn free_bytes() -> usize {
    let (mut free, mut total) = (0, 0);
    // SAFETY: the calls take no address but of two numbers that live.
    unsafe {
        sys::cuCtxSynchronize().result().unwrap();
        sys::cuMemGetInfo_v2(&mut free, &mut total)
            .result()
            .unwrap();
    }
    free
}

fn options(n_ctx: usize, n_sequences: usize, chunk: usize) -> EngineOptions {
    EngineOptions {
        n_ctx: Some(n_ctx),
        n_sequences,
        chunk,
        ..EngineOptions::default()
    }
}

/// While the device works on a piece, the host fills the next one, and whoever watches hears of
/// each.
#[test]
fn weights_come_piece_by_piece_through_two_buffers() {
    let _turn = turn();
    let cuda = Cuda::open(0).unwrap();
    let (rows, cols) = (8_208, 1024);
    let data = vec![0; 2 * rows * cols];
    let source = |rows: usize| MatrixSource {
        name: "weights",
        format: Format::F16,
        rows,
        cols,
        data: &data[..2 * rows * cols],
    };
    let mut pieces = Vec::new();
    let mut waited = Vec::new();
    let matrix = cuda.matrix_from(&[source(rows), source(40)], &mut |piece| {
        let start = piece.as_ptr() as usize - data.as_ptr() as usize;
        pieces.push(start..start + piece.len());
        // SAFETY: the stream lives as long as the device.
        let state = unsafe { sys::cuStreamQuery(cuda.device().stream().cu_stream()) };
        waited.push(state == sys::CUresult::CUDA_SUCCESS);
    });
    let (chunk, all) = (8 << 20, data.len());
    assert!(2 * chunk < all && all < 4 * chunk);
    let mut expected: Vec<_> = (0..all.div_ceil(chunk))
        .map(|i| i * chunk..all.min((i + 1) * chunk))
        .collect();
    expected.push(0..2 * 40 * cols);
    assert_eq!(pieces, expected);
    assert!(
        !waited.contains(&true),
        "the device had nothing to do: {waited:?}"
    );
    assert_eq!(cuda.matrix_bytes(&matrix.unwrap()), all + 2 * 48 * cols);
}

/// Below nothing, and 5 % above at most.
#[test]
fn the_plan_is_what_loading_takes() {
    let _turn = turn();
    for (family, kv_type, options) in [
        ("llama", KvType::Bf16, options(512, 1, 512)),
        ("qwen2", KvType::Int8, options(2048, 3, 64)),
        ("qwen3", KvType::Bf16, options(100, 40, 16)),
        ("gemma3", KvType::Bf16, options(640, 5, 7)),
    ] {
        let file = file(family);
        let before = free_bytes();
        let engine = load(&file, kv_type, &options).unwrap();
        let (used, planned) = (before - free_bytes(), engine.memory());
        assert_eq!(planned, plan(&file, kv_type, &options), "{family}");
        let resident = planned.resident();
        assert!(
            used <= resident && resident * 100 <= used * 105,
            "{family} takes {used} bytes, planned were {resident}: {planned:?}"
        );
        drop(engine);
        assert_eq!(free_bytes(), before, "{family}");
    }
}

/// Prompts of several chunks, decoding to the end of the context, alone and together, with
/// everything that a request may ask for: an allocation would fail.
#[test]
fn nothing_is_allocated_after_loading() {
    let (emulator, _lock) = turn();
    for (family, options) in [
        ("llama", options(320, 1, 64)),
        ("gemma3", options(288, 3, 32)),
    ] {
        for fault in [Fault::Allocation, Fault::PinnedAllocation] {
            let mut engine = load(&file(family), KvType::Bf16, &options).unwrap();
            emulator.fail_next(fault);
            let n_ctx = engine.n_ctx();
            let vocab = engine.config().vocab_size as u32;
            let requests: Vec<_> = (0..options.n_sequences as u32)
                .map(|i| Request {
                    sampling: SamplingParams {
                        logit_bias: (0..40).map(|token| (token, 0.5)).collect(),
                        repeat_penalty: 1.1,
                        repeat_last_n: n_ctx,
                        ..SamplingParams::default()
                    },
                    ignore_eos: true,
                    top_logprobs: 5,
                    ..Request::new(
                        (0..n_ctx as u32 - 20)
                            .map(|t| (t * 7 + i) % vocab)
                            .collect(),
                    )
                })
                .collect();
            let completions =
                engine.generate_batch(&requests, &mut |_, _| ControlFlow::Continue(()));
            for completion in completions.unwrap() {
                assert_eq!(completion.new_tokens, 21, "{family}");
            }
            let ids: Vec<u32> = (0..n_ctx as u32).map(|t| t % vocab).collect();
            let all = &mut |_: usize, _: &[f32]| ControlFlow::Continue(());
            engine.evaluate(&ids, 0..n_ctx, all).unwrap();
            assert!(emulator.spare(), "{family}: {fault:?} struck");
        }
    }
}

#[test]
fn too_little_memory_is_told_with_the_largest_context_that_fits() {
    let (emulator, _lock) = turn();
    let file = file("llama");
    // So many sequences that loading the weights is not the most.
    let options = |n_ctx| options(n_ctx, 128, 2048);
    let load = |n_ctx| load(&file, KvType::Bf16, &options(n_ctx));
    let plan = |n_ctx| plan(&file, KvType::Bf16, &options(n_ctx));
    let needed = |n_ctx| {
        let plan = plan(n_ctx);
        assert_eq!(plan.allocated(), plan.resident());
        plan.beside_context()
    };
    for n_pages in [1, 9, 16] {
        let n_ctx = 32 * n_pages;
        // Room for this many tokens, and for all but a byte of the next page.
        for memory in [needed(n_ctx), needed(n_ctx + 32) - 1] {
            emulator.set_properties(Properties {
                memory,
                ..Properties::default()
            });
            for more in [n_ctx + 32, n_ctx + 33, 4096] {
                let error = load(more).err().expect("too large").to_string();
                let fits = format!("a context of {n_ctx} fits, which is set with --ctx-size");
                assert!(error.contains(&fits) && !error.contains('\n'), "{error}");
                for part in ["needs", "device cuda", "weights", "KV cache", "MB are free"] {
                    assert!(error.contains(part), "{error}");
                }
            }
            let mut engine = load(n_ctx).unwrap();
            let request = Request {
                ignore_eos: true,
                ..Request::new(vec![1; n_ctx - 3])
            };
            let done = engine.generate(&request, &mut |_| ControlFlow::Continue(()));
            assert_eq!(done.unwrap().new_tokens, 4);
        }
    }
    emulator.set_properties(Properties {
        memory: 1 << 20,
        ..Properties::default()
    });
    let error = load(64).err().expect("too large").to_string();
    assert!(
        error.ends_with("not even the shortest context fits"),
        "{error}"
    );
}
