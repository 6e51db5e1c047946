//! Puts load on a server that speaks OpenAI's API and reports what its clients saw.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Parser;
use onward_bench::load::{self, Client, Load, Percentiles, Report, Workload};

/// Put load on a server: many streams, some broken off, some malformed.
#[derive(Parser)]
struct Args {
    /// Where the server listens.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// What it wants to be told.
    #[arg(long, env = "ONWARD_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Streams at once.
    #[arg(long, default_value_t = 64)]
    streams: usize,
    /// Seconds in which requests are begun.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Different prompts.
    #[arg(long, default_value_t = 48)]
    prompts: usize,
    /// Words of a prompt at most; a sixth of that at least.
    #[arg(long, default_value_t = 90)]
    words: usize,
    /// Words that all prompts begin with.
    #[arg(long, default_value_t = 16)]
    shared: usize,
    /// Tokens of a completion at most; half of that at least.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// The share of requests that are broken off.
    #[arg(long, default_value_t = 0.1)]
    dropped: f64,
    /// The share of requests that are malformed.
    #[arg(long, default_value_t = 0.05)]
    malformed: f64,
    /// Decides the prompts and what becomes of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do not ask for each prompt alone first, to compare.
    #[arg(long)]
    no_check: bool,
    /// Write the report here, as JSON.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(
        args.streams > 0 && args.prompts > 0,
        "streams and prompts are wanted"
    );
    let is_share = |share: f64| (0.0..=1.0).contains(&share);
    ensure!(
        is_share(args.dropped)
            && is_share(args.malformed)
            && is_share(args.dropped + args.malformed),
        "--dropped and --malformed are shares between 0 and 1"
    );
    ensure!(
        args.seconds.is_finite() && args.seconds > 0.0,
        "--seconds is to be above 0"
    );
    let workload = Workload {
        seed: args.seed,
        n_prompts: args.prompts,
        prompt_words: (args.words / 6, args.words),
        shared_words: args.shared,
        tokens: (args.tokens.div_ceil(2), args.tokens),
        dropped: args.dropped,
        malformed: args.malformed,
        temperature: 0.8,
    };
    let client = Client::new(&args.url, args.api_key);
    let alone = match args.no_check {
        true => HashMap::new(),
        false => load::solo(&client, &workload).map_err(anyhow::Error::msg)?,
    };
    let load = Load {
        n_streams: args.streams,
        duration: Duration::from_secs_f64(args.seconds),
        workload,
    };
    let records = load::run(&client, &load);
    let report = Report::of(&records, &alone);
    print(&report);
    if let Some(path) = args.output {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    match report.is_sound() {
        true => Ok(()),
        false => bail!("requests were lost, mixed up or wrongly refused"),
    }
}

fn print(report: &Report) {
    println!("finished          {}", report.finished);
    println!("broken off        {}", report.dropped);
    println!("malformed, 400    {}", report.malformed);
    println!("malformed, not 400  {}", report.accepted);
    println!("wrongly refused   {}", report.refused);
    println!("not as alone      {}", report.differing);
    println!("lost              {}", report.lost.len());
    for why in report.lost.iter().take(3) {
        println!("  {why}");
    }
    println!("pieces of text    {:.1} / s", report.pieces_per_second);
    println!("                        p50        p90        p99        max  ms");
    for (name, times) in [
        ("to the first", report.time_to_first),
        ("between two", report.inter_token),
        ("to the end", report.end_to_end),
    ] {
        let Percentiles { p50, p90, p99, max } = times;
        println!("{name:<14} {p50:>12.1} {p90:>10.1} {p99:>10.1} {max:>10.1}");
    }
}
