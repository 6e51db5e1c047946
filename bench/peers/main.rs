//! Onward beside llama.cpp on the same model files, interleaved A B A B in one run.
//!
//! A machine's speed drifts while it is measured, most of all a shared one: single figures say
//! little, the ratio of neighbours does. Each pair runs both programs afresh on a prompt of the
//! same length; the table shows medians and the spread of the ratio.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::Deserialize;

/// Runs llama.cpp through llama-cpp-python; see the script.
const LLAMA_CPP: &str = include_str!("llama_cpp.py");

/// Compare Onward with llama.cpp on the same files.
#[derive(Parser)]
struct Args {
    /// The `onward` binary.
    #[arg(long, default_value = "target/release/onward")]
    onward: PathBuf,
    /// A Python that can import llama_cpp (pip install llama-cpp-python, built natively).
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Pairs of runs.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Threads of both.
    #[arg(long, short, default_value_t = 2)]
    threads: usize,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 64)]
    new: usize,
    /// GGUF files.
    #[arg(required = true)]
    models: Vec<PathBuf>,
}

/// Tokens a second.
#[derive(Clone, Copy, Deserialize)]
struct Speed {
    prefill: f64,
    decode: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.pairs > 0, "--pairs must be at least 1");
    println!(
        "| model | test | onward tok/s | llama.cpp tok/s | ratio (min – max of {} pairs) |",
        args.pairs
    );
    println!("|---|---|---|---|---|");
    for model in &args.models {
        let prompt = prompt_text(&args, model)?;
        let mut pairs = Vec::with_capacity(args.pairs);
        for _ in 0..args.pairs {
            pairs.push((onward(&args, model, &prompt)?, llama_cpp(&args, model)?));
        }
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        print_row(&name, &format!("prefill {}", args.prompt), &pairs, |s| {
            s.prefill
        });
        print_row(&name, &format!("decode {}", args.new), &pairs, |s| s.decode);
    }
    Ok(())
}

fn print_row(model: &str, test: &str, pairs: &[(Speed, Speed)], pick: fn(&Speed) -> f64) {
    let sorted = |values: Vec<f64>| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        values
    };
    let ours = sorted(pairs.iter().map(|(ours, _)| pick(ours)).collect());
    let theirs = sorted(pairs.iter().map(|(_, theirs)| pick(theirs)).collect());
    let ratio = sorted(pairs.iter().map(|(o, t)| pick(o) / pick(t)).collect());
    let (middle, last) = (pairs.len() / 2, pairs.len() - 1);
    println!(
        "| {model} | {test} | {:.1} | {:.1} | {:.2} ({:.2} – {:.2}) |",
        ours[middle], theirs[middle], ratio[middle], ratio[0], ratio[last]
    );
}

/// English text of about as many tokens as the prompt should have.
fn prompt_text(args: &Args, model: &PathBuf) -> Result<String> {
    let source = include_str!("../../tests/golden/texts/GPL-3");
    let ids: Vec<u32> = {
        #[derive(Deserialize)]
        struct Tokens {
            ids: Vec<u32>,
        }
        let output = run(Command::new(&args.onward)
            .args(["tokenize", "--json", "-m"])
            .arg(model)
            .arg(&source[..source.len().min(24_000)]))?;
        serde_json::from_str::<Tokens>(&output)?.ids
    };
    ensure!(
        ids.len() >= args.prompt,
        "the text has only {} tokens",
        ids.len()
    );
    let wanted: Vec<_> = ids[..args.prompt].iter().map(u32::to_string).collect();
    run(Command::new(&args.onward)
        .args(["tokenize", "--decode", &wanted.join(","), "-m"])
        .arg(model))
}

fn onward(args: &Args, model: &PathBuf, prompt: &str) -> Result<Speed> {
    #[derive(Deserialize)]
    struct Done {
        done: Figures,
    }
    #[derive(Deserialize)]
    struct Figures {
        prefill_tps: f64,
        decode_tps: f64,
    }
    // The decoded tokens are one more than the steps between them.
    let output = run(Command::new(&args.onward)
        .args([
            "generate",
            "--json",
            "--ignore-eos",
            "--temp",
            "0",
            "--seed",
            "1",
        ])
        .args([
            "-n",
            &(args.new + 1).to_string(),
            "-t",
            &args.threads.to_string(),
        ])
        .arg("-m")
        .arg(model)
        .arg(prompt))?;
    let last = output.lines().last().context("onward printed nothing")?;
    let Done { done } = serde_json::from_str(last)?;
    Ok(Speed {
        prefill: done.prefill_tps,
        decode: done.decode_tps,
    })
}

fn llama_cpp(args: &Args, model: &PathBuf) -> Result<Speed> {
    let output = run(Command::new(&args.python)
        .args(["-c", LLAMA_CPP])
        .arg(model)
        .args([args.threads, args.prompt, args.new].map(|n| n.to_string())))?;
    let last = output.lines().last().context("llama.cpp printed nothing")?;
    Ok(serde_json::from_str(last)?)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or("it said nothing")
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
