//! `onward next`: what may come next, and what sampling would cut away.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::ControlFlow;

use clap::Args;
use onward_engine::Engine;
use onward_kernels::ops::sample::{Cut, SamplingParams, cut, log_softmax_top};
use serde::Serialize;

use crate::Outcome;
use crate::args::{CutArgs, ModelArgs};
use crate::device::load_engine;
use crate::interrupt::Scope;
use crate::output::{self, Style};
use crate::prompt::prompt_ids;
use crate::stream;
use crate::text::TextArgs;
use crate::values::positive;

const EXAMPLES: &str = "\
Examples:
  onward next \"The capital of France is\"
  onward next \"Once upon a\" --top 20 --temp 0.7 --top-p 0.9
  onward next -f prompt.txt --top 16 --json

The bars and the column `model` show the model's own distribution; `drawn` is the chance that
the token has after the temperature and the cuts. A rule marks where each cut falls.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NextArgs {
    #[command(flatten)]
    text: TextArgs,

    /// Show the K likeliest tokens
    #[arg(long, value_name = "K", value_parser = positive, default_value_t = 10)]
    top: usize,

    /// Show on stderr the ids and tokens that the model sees
    #[arg(long)]
    verbose_prompt: bool,

    /// Print {"ids":[prompt ids],"top":[[id,logprob],…]}
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    cut: CutArgs,

    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct Next<'a> {
    ids: &'a [u32],
    top: &'a [(u32, f32)],
}

pub(crate) fn run(args: &NextArgs) -> anyhow::Result<Outcome> {
    let text = args.text.read_prompt()?;
    let mut engine = load_engine(&args.model)?;
    let ids = prompt_ids(engine.tokenizer(), &text)?;
    if args.verbose_prompt {
        stream::show_prompt(engine.tokenizer(), &ids);
    }
    let Some(logits) = last_logits(&mut engine, &ids)? else {
        output::note("interrupted before there was a result");
        return Ok(Outcome::Interrupted);
    };
    let top = log_softmax_top(&logits, args.top.min(logits.len()))?;
    if args.json {
        output::json(&Next {
            ids: &ids,
            top: &top,
        })?;
    } else {
        let params = args.cut.over(engine.default_sampling().clone());
        let cut = cut(&logits, &params, &ids, None)?;
        let chart = chart(&engine, &top, &params, &cut, Style::stdout());
        output::text(&chart)?;
    }
    Ok(Outcome::Done)
}

/// The logits of what follows `ids`; `None` if the user broke off.
fn last_logits(engine: &mut Engine, ids: &[u32]) -> anyhow::Result<Option<Vec<f32>>> {
    let scope = Scope::open();
    let mut last = None;
    let position = ids.len().saturating_sub(1);
    engine.evaluate(ids, position..ids.len(), &mut |_, logits| {
        last = (!scope.interrupted()).then(|| logits.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(last)
}

const BAR_WIDTH: usize = 32;

fn chart(
    engine: &Engine,
    top: &[(u32, f32)],
    params: &SamplingParams,
    cut: &Cut,
    style: Style,
) -> String {
    let drawn: HashMap<u32, f32> = cut.kept.iter().copied().collect();
    let rows: Vec<_> = top
        .iter()
        .map(|&(id, logprob)| {
            let text = output::token(engine.tokenizer(), id);
            (id, logprob.exp(), drawn.get(&id).copied(), text)
        })
        .collect();
    let text_width = rows.iter().map(|row| width(&row.3)).max().unwrap_or(0);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let heading = format!(
        "{:>8}  {:text_width$}  {:>7}  {:>7}",
        "id", "token", "model", "drawn"
    );
    let _ = writeln!(out, "{}", style.bold(heading));
    for (index, (id, probability, drawn, text)) in rows.iter().enumerate() {
        let pad = " ".repeat(text_width - width(text));
        let chance = drawn.map_or_else(|| "–".to_owned(), percent);
        let bar = bar(*probability);
        let row = format!(
            "{id:>8}  {text}{pad}  {:>7}  {chance:>7}",
            percent(*probability)
        );
        let _ = match drawn {
            Some(_) => writeln!(out, "{row}  {}", style.accent(bar)),
            None => writeln!(out, "{}  {}", style.dim(row), style.dim(bar)),
        };
        for rule in rules(params, cut, index + 1) {
            let _ = writeln!(out, "{}", style.dim(rule));
        }
    }
    let _ = writeln!(out, "{}", style.dim(summary(params, cut, top)));
    out
}

/// The cuts that fall behind the `n` likeliest tokens.
fn rules(params: &SamplingParams, cut: &Cut, n: usize) -> Vec<String> {
    stages(params, cut)
        .into_iter()
        .filter(|&(_, before, after)| after == n && after < before)
        .map(|(name, _, _)| format!("          ──── {name} cuts here ────"))
        .collect()
}

/// Each stage's name, with the tokens before and after it.
fn stages(params: &SamplingParams, cut: &Cut) -> [(String, usize, usize); 4] {
    [
        (
            format!("temperature {}", params.temperature),
            cut.n_allowed,
            cut.n_temperature,
        ),
        (
            format!("top-k {}", params.top_k),
            cut.n_temperature,
            cut.n_top_k,
        ),
        (format!("top-p {}", params.top_p), cut.n_top_k, cut.n_top_p),
        (format!("min-p {}", params.min_p), cut.n_top_p, cut.n_min_p),
    ]
}

fn summary(params: &SamplingParams, cut: &Cut, top: &[(u32, f32)]) -> String {
    let shown: f32 = top.iter().map(|&(_, logprob)| logprob.exp()).sum();
    let left: Vec<_> = stages(params, cut)
        .iter()
        .map(|(name, _, after)| format!("{name} leaves {after}"))
        .collect();
    format!(
        "shown: {} of the model's distribution over {} tokens; {}",
        percent(shown),
        cut.n_vocab,
        left.join(", ")
    )
}

fn percent(probability: f32) -> String {
    let percent = 100.0 * probability;
    if percent > 0.0 && percent < 0.005 {
        return "<0.01 %".to_owned();
    }
    format!("{percent:.2} %")
}

/// A bar of eighths of a character.
fn bar(probability: f32) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (probability.clamp(0.0, 1.0) * (BAR_WIDTH * 8) as f32).round() as usize;
    let full = "█".repeat(eighths / 8);
    format!("{full}{}", EIGHTHS[eighths % 8])
}

/// Columns that a text takes; wide characters count twice.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match c as u32 {
            0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF => 2,
            0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x1F300..=0x1FAFF => 2,
            0x20000..=0x3FFFD => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_percentages_at_the_ends() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1.0).chars().count(), BAR_WIDTH);
        assert_eq!(bar(1.0 / 64.0), "▌");
        assert_eq!(percent(1e-6), "<0.01 %");
        assert_eq!(percent(0.5), "50.00 %");
        assert_eq!(percent(0.0), "0.00 %");
    }
}
