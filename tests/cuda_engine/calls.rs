//! What decoding asks of the driver: the host is not in the loop.

use std::ops::ControlFlow;

use onward_emulator::{Build, Calls, Copies, Emulator, Order};
use onward_engine::{Engine, EngineOptions, Event};
use onward_kernels::cuda::Cuda;
use onward_tests::random_request;
use onward_tests::{golden, load};
use serde_json::{Map, Value, json};

use crate::{alone, beside_others, cuda, engine};

/// The emulated device, which alone counts calls: this thread's apart from other tests'.
fn counting() -> Emulator {
    let emulator = Emulator::install(Build::Optimised).unwrap();
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    emulator
}

/// The calls between one token and the next, for each token behind the first.
fn calls_between_tokens(
    family: &str,
    way: fn(Cuda) -> Cuda,
    length: usize,
    n: usize,
) -> Vec<Calls> {
    calls_of(|| engine(family, way(cuda()), 512, 1), length, n)
}

/// The same of any engine.
fn calls_of(engine: impl FnOnce() -> Engine, length: usize, n: usize) -> Vec<Calls> {
    let emulator = counting();
    let mut engine = engine();
    let request = random_request(&engine, 5, length, n);
    let mut calls = Vec::new();
    engine
        .generate(&request, &mut |event| {
            if let Event::Token(_) = event {
                calls.push(emulator.take_calls());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    calls.split_off(1)
}

/// Once steps loop on the device, a launch of a graph makes many tokens, and nothing waits: not for
/// a token, not for a new page.
#[test]
fn sixteen_tokens_are_one_launch_and_no_wait() {
    let _turn = alone();
    for family in ["llama", "qwen3", "gemma3"] {
        // Crosses four borders of pages, within one split of attention.
        let calls = calls_between_tokens(family, |cuda| cuda, 40, 130);
        // A step runs launch by launch, then a loop of it is recorded.
        let settled = &calls[2..];
        let sum = |count: fn(&Calls) -> u64| settled.iter().map(count).sum::<u64>();
        assert_eq!(sum(|calls| calls.waits), 0, "{family}");
        assert_eq!(sum(|calls| calls.allocations), 0, "{family}");
        assert_eq!(sum(|calls| calls.launches), 0, "{family}");
        let n_graphs = sum(|calls| calls.graph_launches);
        assert!(
            n_graphs <= settled.len() as u64 / 16,
            "{family}: {n_graphs}"
        );
        // The device is no step further than it was looked at.
        let n_rounds = sum(|calls| calls.rounds) as usize;
        assert!(n_rounds <= settled.len() && n_rounds + 2 >= settled.len());
    }
}

/// Where the host repeats steps, a token is one launch of a graph, and nothing waits either.
#[test]
fn a_token_is_one_launch_and_no_wait() {
    let _turn = beside_others();
    for family in ["llama", "qwen3", "gemma3"] {
        // Crosses four borders of pages, within one split of attention.
        let calls = calls_between_tokens(family, Cuda::without_loop, 40, 130);
        // A step runs launch by launch, then it is recorded; three are asked for ahead.
        let settled = &calls[4..];
        let sum = |count: fn(&Calls) -> u64| settled.iter().map(count).sum::<u64>();
        assert_eq!(sum(|calls| calls.waits), 0, "{family}");
        assert_eq!(sum(|calls| calls.allocations), 0, "{family}");
        assert_eq!(sum(|calls| calls.launches), 0, "{family}");
        let n_graphs = sum(|calls| calls.graph_launches) as usize;
        assert!(
            n_graphs <= settled.len() && n_graphs + 3 >= settled.len(),
            "{family}"
        );
    }
}

/// Where the block tables get longer than the recorded step's, another one is recorded; that takes
/// few waits, one in hundreds of tokens.
#[test]
fn a_longer_context_takes_another_graph_and_few_waits() {
    let _turn = alone();
    let ways: [fn(Cuda) -> Cuda; 2] = [|cuda| cuda, Cuda::without_loop];
    for way in ways {
        let calls = calls_between_tokens("llama", way, 200, 150);
        let waits: u64 = calls.iter().map(|calls| calls.waits).sum();
        assert!(waits <= 150 / 16, "{waits} waits");
        let by_graphs = |calls: &&Calls| calls.graph_launches + calls.rounds > 0;
        let graphs = calls.iter().filter(by_graphs).count();
        assert!(graphs > 130, "{graphs} of {} tokens by graphs", calls.len());
    }
}

/// A request that is interrupted costs the step under way, of the dozens that were asked for.
#[test]
fn an_interrupted_request_takes_one_more_step_at_most() {
    let _turn = alone();
    let emulator = counting();
    let mut engine = engine("llama", cuda(), 512, 1);
    let request = random_request(&engine, 8, 30, 100);
    let mut n = 0;
    engine
        .generate(&request, &mut |event| {
            n += usize::from(matches!(event, Event::Token(_)));
            match n < 40 {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })
        .unwrap();
    assert_eq!(n, 40);
    // SAFETY: takes nothing.
    let waited = unsafe { cudarc::driver::sys::cuCtxSynchronize() };
    assert_eq!(waited, cudarc::driver::sys::CUresult::CUDA_SUCCESS);
    // The first token is the prompt's pass's, the second one by launches.
    let in_vain = emulator.take_calls().rounds - 38;
    assert!(in_vain <= 1, "{in_vain} steps in vain");
}

/// A safetensors file without the layers from `n_layers` on.
fn first_layers(file: &[u8], n_layers: usize) -> Vec<u8> {
    let n_header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (header, data) = file[8..].split_at(n_header);
    let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
    let (mut kept, mut kept_data) = (Map::new(), Vec::new());
    for (name, mut tensor) in header {
        let layer = name.strip_prefix("model.layers.");
        let layer = layer.and_then(|rest| rest.split('.').next()?.parse().ok());
        if layer.is_some_and(|layer: usize| layer >= n_layers) {
            continue;
        }
        if let Some(offsets) = tensor.get_mut("data_offsets") {
            let [from, to] = [0, 1].map(|i| offsets[i].as_u64().unwrap() as usize);
            let start = kept_data.len();
            kept_data.extend_from_slice(&data[from..to]);
            *offsets = json!([start, kept_data.len()]);
        }
        kept.insert(name, tensor);
    }
    let mut header = Value::Object(kept).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let n_header = (header.len() as u64).to_le_bytes();
    [&n_header[..], &header, &kept_data].concat()
}

/// Launches of a decode step of the first `n_layers` layers of a checkpoint.
fn launches_of_a_step(family: &str, n_layers: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden("families").join(family)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["num_hidden_layers"] = n_layers.into();
    if let Some(Value::Array(kinds)) = config.get_mut("layer_types") {
        kinds.truncate(n_layers);
    }
    std::fs::write(&path, config.to_string()).unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = first_layers(&std::fs::read(&path).unwrap(), n_layers);
    std::fs::write(&path, tensors).unwrap();
    let options = EngineOptions {
        n_ctx: Some(512),
        ..EngineOptions::default()
    };
    let engine = || load(folder.path(), cuda().without_graphs(), &options);
    let calls = calls_of(engine, 20, 12);
    // The steps that are asked for ahead come with the first token.
    let settled: Vec<u64> = calls[2..8].iter().map(|calls| calls.launches).collect();
    assert!(settled.iter().all(|&n| n == settled[0]), "{settled:?}");
    settled[0]
}

/// A layer that is decoded is five launches: the product of queries, keys and values with the norm
/// before it; their norms, rotation, storing and attention; the output's product, the gated one and
/// the last one. Gemma has two norms more, one behind each half, which no product takes over.
#[test]
fn a_decoded_layer_is_five_launches() {
    let _turn = beside_others();
    for (family, n_launches) in [("llama", 5), ("qwen3", 5), ("gemma3", 7)] {
        let (two, three) = (launches_of_a_step(family, 2), launches_of_a_step(family, 3));
        assert_eq!(
            three - two,
            n_launches,
            "{family}: {three} for three layers"
        );
    }
}

/// A caller that breaks off hears of no further token, and the engine serves the next request
/// with the tokens that it gives alone.
#[test]
fn breaking_off_leaves_nothing_behind() {
    let _turn = beside_others();
    let mut engine = engine("llama", cuda(), 512, 1);
    let request = random_request(&engine, 8, 30, 40);
    let mut run = |limit: usize| {
        let mut tokens = Vec::new();
        let completion = engine
            .generate(&request, &mut |event| {
                if let Event::Token(token) = event {
                    tokens.push(token.id);
                }
                match tokens.len() < limit {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })
            .unwrap();
        assert_eq!(completion.new_tokens, tokens.len());
        tokens
    };
    let whole = run(usize::MAX);
    assert_eq!(run(7), whole[..7]);
    assert_eq!(run(usize::MAX), whole);
}
