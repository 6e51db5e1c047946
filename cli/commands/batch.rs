//! `onward batch`: the requests of a file, served offline, as many at once as there is room for.

mod lines;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use onward_engine::{EngineOptions, Service, ServiceOptions};
use serde_json::{Value, json};

use self::lines::Line;
use crate::Outcome;
use crate::args::ModelArgs;
use crate::device::load_engine_with;
use crate::interrupt::Scope;
use crate::output::{self, counted};
use crate::progress::{Progress, Unit};
use crate::prompt::template_of;
use crate::serve::{Answered, Loaded, MAX_BODY, Offline, ServerOptions};
use crate::values::{positive, sequence_count};

const EXAMPLES: &str = "\
Examples:
  onward batch requests.jsonl answers.jsonl -m qwen.gguf
  onward batch requests.jsonl answers.jsonl -m qwen.gguf --parallel 64

The format is that of OpenAI's batches. A line of the input is
  {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {\"messages\": …}}
with the url of a completion, a chat completion or an embedding, and becomes a line of the output,
in whatever order they are done. What the output has already is not asked again, so that a batch
that was broken off goes on where it was; what failed is tried again.";

/// How often a signal is looked for.
const SIGNAL_POLL: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BatchArgs {
    /// The requests, one JSON object a line
    #[arg(value_name = "IN.jsonl")]
    input: PathBuf,

    /// Where their answers go, one JSON object a line
    #[arg(value_name = "OUT.jsonl")]
    output: PathBuf,

    /// Requests that are served at a time
    #[arg(long, value_name = "N", value_parser = sequence_count, default_value_t = 16)]
    parallel: usize,

    /// Tokens that the KV cache holds [default: what all requests at a time can need]
    #[arg(long, value_name = "N", value_parser = positive)]
    cache_tokens: Option<usize>,

    /// A Jinja chat template to use instead of the model's own
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    chat_template: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: &BatchArgs) -> anyhow::Result<Outcome> {
    // All of the input is looked at before anything is done.
    let mut lines = lines::read(&args.input)?;
    let total = lines.len();
    let done = lines::take_over(&args.output)?;
    lines.retain(|line| !done.contains(&line.custom_id));
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.output)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let n_before = total - lines.len();
    if n_before > 0 {
        output::note(format_args!("{n_before} of {total} are done already"));
    }
    if lines.is_empty() {
        return Ok(Outcome::Done);
    }
    let offline = load(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()?;
    let scope = Scope::open();
    let served = runtime.block_on(serve(&offline, &lines, args.parallel, &mut out, &scope));
    runtime.shutdown_background();
    let served = served.with_context(|| format!("cannot write {}", args.output.display()))?;
    report(&served, lines.len(), &args.output)
}

/// How many were answered.
#[derive(Default)]
struct Served {
    n_done: usize,
    n_failed: usize,
}

fn report(served: &Served, n: usize, path: &Path) -> anyhow::Result<Outcome> {
    let Served { n_done, n_failed } = *served;
    if n_done < n {
        output::note(format_args!(
            "{n_done} of {n} done; the same command goes on from here"
        ));
        return Ok(Outcome::Interrupted);
    }
    if n_failed > 0 {
        let failed = counted(n_failed, "request");
        bail!("{failed} of {n} failed; {} says why", path.display());
    }
    Ok(Outcome::Done)
}

/// Asks for all lines, as many at a time as keep the engine busy, and writes what is answered.
async fn serve(
    offline: &Offline,
    lines: &[Line],
    parallel: usize,
    out: &mut File,
    scope: &Scope,
) -> io::Result<Served> {
    let mut bar = Progress::new("Serving", Unit::Requests);
    let (mut served, mut waiting) = (Served::default(), lines.iter());
    let mut under_way = FuturesUnordered::new();
    loop {
        // One more than are served, so that the next is there when one ends.
        while under_way.len() <= parallel
            && let Some(line) = waiting.next()
        {
            under_way.push(async move { (line, offline.post(&line.url, &line.body).await) });
        }
        let next = tokio::time::timeout(SIGNAL_POLL, under_way.next()).await;
        if scope.interrupted() {
            return Ok(served);
        }
        match next {
            Err(_) => {}
            Ok(None) => return Ok(served),
            Ok(Some((line, answered))) => {
                served.n_done += 1;
                served.n_failed += usize::from(!matches!(&answered, Ok(a) if a.status == 200));
                let text = answer(line, answered).to_string() + "\n";
                // A line is there as a whole or not at all, as far as the system goes.
                out.write_all(text.as_bytes())?;
                bar.set(served.n_done as u64, lines.len() as u64);
            }
        }
    }
}

/// The line of the output.
fn answer(line: &Line, answered: anyhow::Result<Answered>) -> Value {
    let custom_id = &line.custom_id;
    match answered {
        Ok(Answered { status, body }) => {
            let error = match status {
                200 => Value::Null,
                _ => body["error"].clone(),
            };
            json!({
                "id": format!("batch_req_{custom_id}"),
                "custom_id": custom_id,
                "response": {"status_code": status, "request_id": body["id"], "body": body},
                "error": error,
            })
        }
        Err(error) => json!({
            "id": format!("batch_req_{custom_id}"),
            "custom_id": custom_id,
            "response": null,
            "error": {"code": "internal_error", "message": error.to_string()},
        }),
    }
}

fn load(args: &BatchArgs) -> anyhow::Result<Offline> {
    let engine = load_engine_with(&args.model, |_| {
        Ok(EngineOptions {
            n_ctx: args.model.ctx_size,
            n_sequences: args.parallel,
            chunk: args.model.chunk,
            // Nobody looks at the time between two tokens.
            beside_decode: args.model.chunk,
            cache_tokens: args.cache_tokens,
        })
    })?;
    let template = args.chat_template.as_deref();
    let template = template.map(|path| template_of(path, engine.tokenizer()));
    let options = ServerOptions {
        model_names: vec!["onward".to_owned()],
        api_key: None,
        cors_origins: Vec::new(),
        max_body: MAX_BODY,
        read_timeout: Duration::from_secs(30),
        timeout: None,
    };
    let loaded = Loaded {
        template: template.transpose()?,
        service: Service::start(engine, ServiceOptions::default()),
    };
    Ok(Offline::new(options, loaded))
}
