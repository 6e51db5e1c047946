//! `onward tokenize`: text to token ids and back.

use std::fmt::Write;

use anyhow::Context;
use clap::Args;
use onward_engine::formats::ModelFile;
use onward_engine::model::vocabulary::tokenizer_from_file;
use onward_tokenizer::Tokenizer;
use serde::Serialize;

use crate::Outcome;
use crate::args::ModelFileArgs;
use crate::output::{self, Style};
use crate::text::TextArgs;
use crate::values::token_id;

const EXAMPLES: &str = "\
Examples:
  onward tokenize \"Hello, world!\"
  onward tokenize -f prompt.txt --json
  onward tokenize --decode 9259,236764,1902";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    text: TextArgs,

    /// Put the model's beginning-of-sequence token first
    #[arg(long)]
    bos: bool,

    /// Turn ids back into text instead
    #[arg(
        long,
        value_name = "ID,…",
        value_delimiter = ',',
        value_parser = token_id,
        num_args = 1..,
        conflicts_with_all = ["text", "file", "bos"]
    )]
    decode: Option<Vec<u32>>,

    /// Print {"ids":[…]}, or {"text":"…"} with --decode
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelFileArgs,
}

#[derive(Serialize)]
struct Ids {
    ids: Vec<u32>,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

pub(crate) fn run(args: &TokenizeArgs) -> anyhow::Result<Outcome> {
    // Text first: a missing text should not wait for a model to be opened.
    let text = match args.decode {
        Some(_) => None,
        None => Some(args.text.read()?),
    };
    let file = ModelFile::open(&args.model.path()?)?;
    let tokenizer = tokenizer_from_file(&file)?;
    match (&args.decode, text) {
        (Some(ids), _) => decode(&tokenizer, ids, args.json)?,
        (None, text) => encode(&tokenizer, &text.unwrap_or_default(), args)?,
    }
    Ok(Outcome::Done)
}

fn encode(tokenizer: &Tokenizer, text: &str, args: &TokenizeArgs) -> anyhow::Result<()> {
    let mut ids = tokenizer.encode(text, false)?;
    if args.bos {
        let bos = tokenizer
            .bos()
            .context("this model has no beginning-of-sequence token, so --bos cannot add one")?;
        ids.insert(0, bos);
    }
    if args.json {
        return Ok(output::json(&Ids { ids })?);
    }
    Ok(output::text(&listing(tokenizer, &ids, Style::stdout()))?)
}

fn decode(tokenizer: &Tokenizer, ids: &[u32], json: bool) -> anyhow::Result<()> {
    let n_vocab = tokenizer.vocab_size();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= n_vocab) {
        anyhow::bail!("there is no token {id}: the vocabulary has {n_vocab}");
    }
    let text = tokenizer.decode(ids)?;
    if json {
        return Ok(output::json(&Text { text })?);
    }
    Ok(output::text(&format!("{text}\n"))?)
}

/// One line a token: its id and its text.
pub(crate) fn listing(tokenizer: &Tokenizer, ids: &[u32], style: Style) -> String {
    let mut lines = String::new();
    for &id in ids {
        let text = output::token(tokenizer, id);
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{id:>8}  {}", style.accent(text));
    }
    lines
}
