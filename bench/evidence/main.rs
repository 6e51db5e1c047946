//! `onward-evidence`: what the machine code of the embedded kernels says, as Markdown or JSON.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use onward_bench::evidence::{self, rules, table};

/// Prints registers, spills, occupancy and instructions of every compiled kernel.
#[derive(Parser)]
struct Arguments {
    /// Print JSON instead of Markdown.
    #[arg(long)]
    json: bool,
    /// Write to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let evidence = evidence::gather()?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&evidence.rows)?
    } else {
        table::markdown(&evidence)
    };
    match arguments.output {
        Some(path) => std::fs::write(&path, text)
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => println!("{text}"),
    }
    for fault in evidence.rows.iter().flat_map(rules::faults) {
        eprintln!("fault: {fault}");
    }
    Ok(())
}
