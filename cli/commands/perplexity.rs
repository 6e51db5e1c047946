//! `onward perplexity`: how well a model predicts a text.
//!
//! `mean_nll = −1/(N−1) Σ ln p(id[t+1] | id[0..=t])` over the first `N` ids, and
//! `perplexity = exp(mean_nll)`, natural logarithms throughout.

use std::ops::ControlFlow;

use anyhow::bail;
use clap::Args;
use onward_engine::Engine;
use onward_kernels::ops::sample::{log_probability, log_softmax_top};
use serde::Serialize;

use crate::Outcome;
use crate::args::ModelArgs;
use crate::device::load_engine;
use crate::interrupt::Scope;
use crate::output::{self, Style};
use crate::progress::{Progress, Unit};
use crate::prompt::prompt_ids;
use crate::text::TextArgs;
use crate::values::{positive, whole};

const EXAMPLES: &str = "\
Examples:
  onward perplexity -f /usr/share/common-licenses/GPL-3 --max-tokens 768
  onward perplexity -f book.txt --json

The text is read as it stands, after the beginning-of-sequence token where the model wants one;
that token counts as one of the N, and all but the first are predicted from those before them.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    text: TextArgs,

    /// Look at the first N tokens only [default: as many as the context holds]
    #[arg(long, value_name = "N", value_parser = positive)]
    max_tokens: Option<usize>,

    /// With --json, give the K likeliest tokens after each position
    #[arg(
        long,
        value_name = "K",
        value_parser = whole,
        default_value_t = 0,
        hide_default_value = true,
        requires = "json"
    )]
    top_logprobs: usize,

    /// Print {"tokens":n,"mean_nll":x,"perplexity":x}
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct Report {
    tokens: usize,
    mean_nll: f64,
    perplexity: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    positions: Vec<Position>,
}

#[derive(Serialize)]
struct Position {
    id: u32,
    /// What comes next: id and natural log-probability, the likeliest first.
    top: Vec<(u32, f32)>,
}

pub(crate) fn run(args: &PerplexityArgs) -> anyhow::Result<Outcome> {
    let text = args.text.read()?;
    let mut engine = load_engine(&args.model)?;
    let ids = first_ids(&engine, &text, args.max_tokens)?;
    let Some(report) = measure(&mut engine, &ids, args.top_logprobs)? else {
        output::note("interrupted before there was a result");
        return Ok(Outcome::Interrupted);
    };
    if args.json {
        output::json(&report)?;
    } else {
        output::text(&format!(
            "tokens      {}\nmean nll    {:.6}\nperplexity  {:.5}\n",
            report.tokens, report.mean_nll, report.perplexity
        ))?;
    }
    Ok(Outcome::Done)
}

/// The ids to look at: the first `max_tokens`, or what the context holds.
fn first_ids(engine: &Engine, text: &str, max_tokens: Option<usize>) -> anyhow::Result<Vec<u32>> {
    let mut ids = prompt_ids(engine.tokenizer(), text)?;
    let n_ctx = engine.n_ctx();
    if max_tokens.is_none() && ids.len() > n_ctx {
        let note = format!(
            "The text has {} tokens; the first {n_ctx} fit the context and are looked at.",
            ids.len()
        );
        output::note(Style::stderr().dim(note));
    }
    ids.truncate(max_tokens.unwrap_or(n_ctx));
    if ids.len() < 2 {
        bail!("at least 2 tokens are needed, for the first is not predicted");
    }
    Ok(ids)
}

/// Runs the model over `ids`; `None` if the user broke off.
fn measure(engine: &mut Engine, ids: &[u32], n_top: usize) -> anyhow::Result<Option<Report>> {
    let scope = Scope::open();
    let mut bar = Progress::new("Reading", Unit::Tokens);
    let mut sum = 0.0;
    let mut positions = Vec::new();
    let mut failure = None;
    let mut seen = 0;
    engine.evaluate(ids, 0..ids.len(), &mut |position, logits| {
        if scope.interrupted() {
            return ControlFlow::Break(());
        }
        let result = ids.get(position + 1).map_or(Ok(0.0), |&next| {
            log_probability(logits, next).map(|logprob| -logprob)
        });
        let result = result.and_then(|nll| {
            sum += nll;
            if n_top > 0 {
                let top = log_softmax_top(logits, n_top.min(logits.len()))?;
                let id = ids[position];
                positions.push(Position { id, top });
            }
            Ok(())
        });
        if let Err(error) = result {
            failure = Some(error);
            return ControlFlow::Break(());
        }
        seen = position + 1;
        bar.set(seen as u64, ids.len() as u64);
        ControlFlow::Continue(())
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    let mean_nll = sum / (ids.len() - 1) as f64;
    Ok((seen == ids.len()).then(|| Report {
        tokens: ids.len(),
        mean_nll,
        perplexity: mean_nll.exp(),
        positions,
    }))
}
