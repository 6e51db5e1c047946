//! Real models against Hugging Face transformers, run in float32 on weights dequantised from
//! the same files.
//!
//! `reference` has to agree in every number; `cpu` quantises activations to 8 bits in blocks of
//! 32, which is known to cost a mean divergence of 0.001 to 0.0024, and has to cost no more;
//! `cuda`, here the emulated device, keeps activations in 16 bits, which costs a tenth of that.

use std::ops::{ControlFlow, Range};

use onward_emulator::{Build, Emulator};
use onward_engine::{Engine, EngineOptions, Event, Request};
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::sample::SamplingParams;
use onward_kernels::{Backend, Cpu, Reference};
use onward_tests::gguf_cut::first_layers;
use onward_tests::{
    GEMMA, QWEN, golden, golden_json, kl_divergence, load, log_softmax, model_path,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    bos_prepended: bool,
    next_token: Vec<NextToken>,
    greedy: Vec<Greedy>,
    perplexity: Vec<Perplexity>,
    teacher_forced: TeacherForced,
}

#[derive(Deserialize)]
struct NextToken {
    prompt: String,
    ids: Vec<u32>,
    top: Vec<(u32, f64)>,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: String,
    ids: Vec<u32>,
    new_ids: Vec<u32>,
    margin: Vec<f64>,
}

#[derive(Deserialize)]
struct Perplexity {
    text_file: String,
    tokens: usize,
    ids_head: Vec<u32>,
    mean_nll: f64,
}

#[derive(Deserialize)]
struct TeacherForced {
    text_file: String,
    first_position: usize,
    top: Vec<Vec<(u32, f64)>>,
}

/// How far a device may be from the golden values.
struct Tolerance {
    /// Of every log-probability above −6.
    logprob: f64,
    /// Of the mean negative log-likelihood, relative.
    nll: f64,
    /// Greedy ids are compared where the two best tokens are at least this far apart.
    margin: f64,
    /// Of the mean and the 99th percentile of the divergence.
    kl: (f64, f64),
}

const REFERENCE: Tolerance = Tolerance {
    logprob: 0.01,
    nll: 0.001,
    margin: 0.02,
    kl: (1e-5, 1e-4),
};

const CPU: Tolerance = Tolerance {
    // The greatest single difference is noise; the divergence judges.
    logprob: f64::INFINITY,
    nll: 0.005,
    margin: 0.5,
    kl: (0.003, 0.02),
};

/// Rounding to bf16 alone gives a mean of 0.00007 and a 99th percentile of 0.0005.
const CUDA: Tolerance = Tolerance {
    logprob: f64::INFINITY,
    nll: f64::INFINITY,
    margin: 0.3,
    kl: (0.0003, 0.002),
};

/// Rounding keys to bf16 alone, in the reference, gives 0.0012 and 0.0041 for two layers of Qwen,
/// whose biases make keys large beside what sets them apart; a quarter more is granted.
const CUDA_QWEN: Tolerance = Tolerance {
    kl: (0.0015, 0.0052),
    ..CUDA
};

/// Log-probabilities over the vocabulary after each position of a range.
fn evaluate(
    engine: &mut Engine,
    ids: &[u32],
    positions: Range<usize>,
    mut each: impl FnMut(usize, Vec<f64>),
) {
    engine
        .evaluate(ids, positions, &mut |position, logits| {
            each(position, log_softmax(logits));
            ControlFlow::Continue(())
        })
        .unwrap();
}

fn argmax(logprobs: &[f64]) -> u32 {
    let best = (0..logprobs.len())
        .rev()
        .max_by(|&a, &b| logprobs[a].total_cmp(&logprobs[b]));
    best.unwrap() as u32
}

fn check<B: Backend>(model: &str, golden_file: &str, backend: B, tolerance: &Tolerance) {
    let golden: Golden = golden_json(golden_file);
    let options = EngineOptions {
        n_ctx: Some(1024),
        ..EngineOptions::default()
    };
    let mut engine = load(&model_path(model), backend, &options);
    check_next_token(&mut engine, &golden, tolerance);
    check_greedy(&mut engine, &golden, tolerance);
    check_texts(&mut engine, &golden, tolerance);
}

fn check_next_token(engine: &mut Engine, golden: &Golden, tolerance: &Tolerance) {
    for case in &golden.next_token {
        let ids = engine
            .tokenizer()
            .encode(&case.prompt, golden.bos_prepended)
            .unwrap();
        assert_eq!(ids, case.ids, "{:?}", case.prompt);
        let last = ids.len() - 1;
        evaluate(engine, &ids, last..last + 1, |_, ours| {
            for &(id, logprob) in case.top.iter().filter(|(_, logprob)| *logprob > -6.0) {
                let difference = (ours[id as usize] - logprob).abs();
                assert!(
                    difference <= tolerance.logprob,
                    "{:?}, {id}: {difference}",
                    case.prompt
                );
            }
        });
    }
}

/// Fed with the golden tokens, the model must choose each of them itself.
fn check_greedy(engine: &mut Engine, golden: &Golden, tolerance: &Tolerance) {
    for case in &golden.greedy {
        check_choices(engine, case, tolerance);
    }
}

fn check_choices(engine: &mut Engine, case: &Greedy, tolerance: &Tolerance) {
    let (first, n_new) = (case.ids.len() - 1, case.new_ids.len());
    let ids = [case.ids.as_slice(), &case.new_ids].concat();
    let mut compared = 0;
    evaluate(engine, &ids, first..first + n_new, |position, ours| {
        let step = position - first;
        if case.margin[step] >= tolerance.margin {
            assert_eq!(
                argmax(&ours),
                case.new_ids[step],
                "{:?}, step {step}",
                case.prompt
            );
            compared += 1;
        }
    });
    assert!(
        compared >= 8,
        "{:?}: only {compared} sure steps",
        case.prompt
    );
}

/// Decodes a golden completion. A token that differs where the margin is too small ends the
/// comparison: the text is another one from there on.
fn check_completion(engine: &mut Engine, case: &Greedy, tolerance: &Tolerance) {
    let request = Request {
        sampling: SamplingParams::greedy(),
        max_tokens: Some(case.new_ids.len()),
        ignore_eos: true,
        ..Request::new(case.ids.clone())
    };
    let mut drawn = Vec::new();
    engine
        .generate(&request, &mut |event| {
            if let Event::Token(token) = event {
                drawn.push(token.id);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(drawn.len(), case.new_ids.len());
    let differs = (0..drawn.len()).find(|&step| drawn[step] != case.new_ids[step]);
    println!("{:?}: the first other token at {differs:?}", case.prompt);
    if let Some(step) = differs {
        let margin = case.margin[step];
        assert!(margin < tolerance.margin, "step {step}: margin {margin}");
    }
    let sure = |&margin: &f64| margin >= tolerance.margin;
    let n_sure = case
        .margin
        .iter()
        .take_while(|&margin| sure(margin))
        .count();
    assert!(n_sure >= 12, "only {n_sure} steps before an unsure one");
}

fn check_texts(engine: &mut Engine, golden: &Golden, tolerance: &Tolerance) {
    for text in &golden.perplexity {
        let ids = text_ids(engine, golden, text);
        let forced = &golden.teacher_forced;
        let forced = (forced.text_file == text.text_file).then_some(forced);
        let (mut nll, mut divergences) = (0.0, Vec::new());
        evaluate(engine, &ids, 0..ids.len() - 1, |position, ours| {
            nll -= ours[ids[position + 1] as usize];
            let top = forced.and_then(|f| f.top.get(position.checked_sub(f.first_position)?));
            divergences.extend(top.map(|top| kl_divergence(top, &ours)));
        });
        let nll = nll / (ids.len() - 1) as f64;
        let relative = (nll / text.mean_nll - 1.0).abs();
        println!(
            "{}: mean NLL {nll:.6}, {relative:.2e} from golden",
            text.text_file
        );
        assert!(relative <= tolerance.nll, "{}: {relative}", text.text_file);
        if let Some(forced) = forced {
            check_divergence(divergences, forced.top.len(), tolerance);
        }
    }
}

/// The tokens of a golden text.
fn text_ids(engine: &Engine, golden: &Golden, text: &Perplexity) -> Vec<u32> {
    let content = std::fs::read_to_string(self::golden("texts").join(&text.text_file)).unwrap();
    let mut ids = engine
        .tokenizer()
        .encode(&content, golden.bos_prepended)
        .unwrap();
    ids.truncate(text.tokens);
    assert_eq!(ids[..text.ids_head.len()], text.ids_head);
    ids
}

/// The divergence at the golden positions, of a device on which the whole text takes too long.
fn check_forced(engine: &mut Engine, golden: &Golden, tolerance: &Tolerance) {
    let forced = &golden.teacher_forced;
    let mut texts = golden.perplexity.iter();
    let text = texts.find(|text| text.text_file == forced.text_file);
    let end = forced.first_position + forced.top.len();
    let ids = &text_ids(engine, golden, text.unwrap())[..end];
    let mut divergences = Vec::new();
    evaluate(engine, ids, forced.first_position..end, |position, ours| {
        let top = &forced.top[position - forced.first_position];
        divergences.push(kl_divergence(top, &ours));
    });
    check_divergence(divergences, forced.top.len(), tolerance);
}

fn check_divergence(mut divergences: Vec<f64>, n: usize, tolerance: &Tolerance) {
    assert_eq!(divergences.len(), n);
    divergences.sort_by(f64::total_cmp);
    let mean = divergences.iter().sum::<f64>() / n as f64;
    let p99 = divergences[(n * 99).div_ceil(100) - 1];
    println!("divergence: mean {mean:.2e}, p99 {p99:.2e}");
    assert!(mean <= tolerance.kl.0, "mean {mean}");
    assert!(p99 <= tolerance.kl.1, "p99 {p99}");
}

#[test]
fn gemma_on_the_reference() {
    check(
        GEMMA,
        "gemma-3-270m.public.json",
        Reference::new(),
        &REFERENCE,
    );
}

#[test]
fn gemma_on_the_cpu() {
    check(
        GEMMA,
        "gemma-3-270m.public.json",
        Cpu::new(2).unwrap(),
        &CPU,
    );
}

#[test]
fn qwen_on_the_reference() {
    check(
        QWEN,
        "qwen2.5-coder-0.5b.public.json",
        Reference::new(),
        &REFERENCE,
    );
}

#[test]
fn qwen_on_the_cpu() {
    check(
        QWEN,
        "qwen2.5-coder-0.5b.public.json",
        Cpu::new(2).unwrap(),
        &CPU,
    );
}

/// Loads Gemma onto the emulated device.
fn emulated_gemma() -> (Engine, Golden) {
    Emulator::install(Build::Optimised).unwrap();
    let options = EngineOptions {
        n_ctx: Some(640),
        chunk: 128,
        ..EngineOptions::default()
    };
    let engine = load(&model_path(GEMMA), Cuda::open(0).unwrap(), &options);
    (engine, golden_json("gemma-3-270m.public.json"))
}

#[test]
fn gemma_completes_a_text_on_the_emulated_gpu() {
    let (mut engine, golden) = emulated_gemma();
    let mut cases = golden.greedy.iter();
    let case = cases.find(|case| case.prompt == "The opposite of hot is");
    check_completion(&mut engine, case.unwrap(), &CUDA);
    check_choices(&mut engine, case.unwrap(), &CUDA);
}

#[test]
fn gemma_diverges_little_on_the_emulated_gpu() {
    let (mut engine, golden) = emulated_gemma();
    check_forced(&mut engine, &golden, &CUDA);
}

/// The first two layers of Qwen, since all 24 take too long there: queries, keys and values with
/// biases, heads in groups of seven, and a mixture of formats that Gemma does not have. Judged by
/// the reference, which `qwen_on_the_reference` holds to golden values.
#[test]
fn two_layers_of_qwen_diverge_little_on_the_emulated_gpu() {
    Emulator::install(Build::Optimised).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two-layers.gguf");
    std::fs::write(&path, first_layers(&model_path(QWEN), 2).bytes()).unwrap();
    let options = EngineOptions {
        n_ctx: Some(256),
        ..EngineOptions::default()
    };
    let text = std::fs::read_to_string(golden("texts").join("GPL-3")).unwrap();
    let mut reference = load(&path, Reference::new(), &options);
    let mut ids = reference.tokenizer().encode(&text, false).unwrap();
    ids.truncate(100);
    let mut expected = Vec::new();
    evaluate(&mut reference, &ids, 50..100, |_, theirs| {
        expected.push(theirs)
    });

    let mut engine = load(&path, Cuda::open(0).unwrap(), &options);
    let mut divergences = Vec::new();
    evaluate(&mut engine, &ids, 50..100, |position, ours| {
        let theirs = &expected[position - 50];
        let best = argmax(theirs);
        let mut others = theirs.clone();
        others[best as usize] = f64::NEG_INFINITY;
        let margin = theirs[best as usize] - others[argmax(&others) as usize];
        assert!(margin < CUDA.margin || argmax(&ours) == best, "{position}");
        let all: Vec<_> = (0..).zip(theirs.iter().copied()).collect();
        divergences.push(kl_divergence(&all, &ours));
    });
    check_divergence(divergences, 50, &CUDA_QWEN);
}
