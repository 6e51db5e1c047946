//! `onward serve`: a model for many clients, over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;
use clap::Args;
use onward_engine::formats::ModelFile;
use onward_engine::{EngineOptions, Error, ModelConfig, Service, ServiceOptions};

use crate::Outcome;
use crate::args::ModelArgs;
use crate::device::load_engine_with;
use crate::prompt::template_of;
use crate::serve::{self, Loaded, MAX_BODY, ServerOptions};
use crate::values::{positive, seconds, sequence_count};

const EXAMPLES: &str = "\
Examples:
  onward serve -m qwen.gguf
  onward serve -m qwen.gguf --host 0.0.0.0 --api-key \"$(cat key)\" --parallel 16
  curl localhost:8080/v1/completions -H 'Content-Type: application/json' \\
       -d '{\"prompt\": \"The sea was\", \"max_tokens\": 20}'
  curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\
       -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Name a prime.\"}], \"stream\": true}'

Clients of OpenAI's API take http://localhost:8080/v1 as their base URL. Besides /v1/completions,
/v1/chat/completions, /v1/embeddings and /v1/models there are /tokenize, /detokenize, /health,
/metrics (for Prometheus) and /openapi.json, which describes them all.

SIGTERM and Ctrl-C let the requests under way end; a second signal ends the server at once.";

/// Tokens of the KV cache where nothing is said, unless one context is larger.
const CACHE_TOKENS: usize = 64 << 10;

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    limits: LimitArgs,

    /// A Jinja chat template to use instead of the model's own
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    chat_template: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,
}

/// Where it listens and who may ask.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
struct ServerArgs {
    /// The address to listen on; 0.0.0.0 for all of the machine's
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,

    /// The port to listen on; 0 for one that is free, which is then written to stderr
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,

    /// A name that clients may ask for the model by (repeatable); the first is shown in answers
    /// [default: the file's name without its ending]
    #[arg(long, visible_alias = "alias", value_name = "NAME")]
    model_name: Vec<String>,

    /// A key that clients must send as a bearer token on every route but /health and the page
    #[arg(
        long,
        value_name = "KEY",
        env = "ONWARD_API_KEY",
        hide_env_values = true
    )]
    api_key: Option<String>,

    /// An origin whose web pages may use the API, or * for all (repeatable) [default: none]
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<HeaderValue>,

    /// Write what the model sees to the log, which holds no text otherwise
    #[arg(long)]
    log_prompts: bool,
}

/// How much it takes on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Requests that are served at a time
    #[arg(long, value_name = "N", value_parser = sequence_count, default_value_t = 8)]
    parallel: usize,

    /// Tokens that the KV cache holds, of all requests together and of beginnings that may come
    /// again [default: 65536, or one context if that is more, or what all can need if that is less]
    #[arg(long, value_name = "N", value_parser = positive)]
    cache_tokens: Option<usize>,

    /// Requests that may wait; a further one is answered with 429
    #[arg(long, value_name = "N", value_parser = positive, default_value_t = 512)]
    max_queue: usize,

    /// Seconds that a request may take in all, its wait included; 0 for no limit
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    timeout: Duration,

    /// Seconds that a client may take to send a request's headers, and then its body
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    read_timeout: Duration,

    /// Bytes of a request's body; a larger one is answered with 413
    #[arg(long, value_name = "BYTES", value_parser = positive, default_value_t = MAX_BODY)]
    max_body: usize,

    /// Seconds that the requests under way may still take when the server is told to end
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    shutdown_timeout: Duration,
}

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<Outcome> {
    let path = args.model.file.path()?;
    let mut model_names = args.server.model_name.clone();
    if model_names.is_empty() {
        let name = path.file_stem().unwrap_or(path.as_os_str());
        model_names.push(name.to_string_lossy().into_owned());
    }
    if args.server.api_key.as_deref().is_some_and(str::is_empty) {
        anyhow::bail!("the --api-key is empty");
    }
    let options = ServerOptions {
        model_names,
        api_key: args.server.api_key.clone(),
        cors_origins: args.server.cors_origin.clone(),
        max_body: args.limits.max_body,
        read_timeout: args.limits.read_timeout,
        timeout: Some(args.limits.timeout).filter(|timeout| !timeout.is_zero()),
    };
    if args.server.log_prompts {
        serve::with_prompts();
    }
    let server = &args.server;
    let shutdown_timeout = args.limits.shutdown_timeout;
    let of_loading = args.clone();
    let load = move || load(&of_loading);
    serve::run(options, &server.host, server.port, shutdown_timeout, load)?;
    Ok(Outcome::Done)
}

fn load(args: &ServeArgs) -> anyhow::Result<Loaded> {
    let engine = load_engine_with(&args.model, |file| sizes(args, file))?;
    let template = args.chat_template.as_deref();
    let template = template.map(|path| template_of(path, engine.tokenizer()));
    let options = ServiceOptions {
        max_queue: args.limits.max_queue,
    };
    let again = args.clone();
    let reload = move || {
        tracing::warn!("the device has failed: the model is loaded again");
        load_engine_with(&again.model, |file| sizes(&again, file))
            .map_err(|error| Error::Failed(format!("{error:#}")))
    };
    Ok(Loaded {
        template: template.transpose()?,
        service: Service::restarting(engine, options, reload),
    })
}

/// A server's cache fills up with what may come again, so that it is bounded from the start.
fn sizes(args: &ServeArgs, file: &ModelFile) -> anyhow::Result<EngineOptions> {
    let mut options = EngineOptions {
        n_ctx: args.model.ctx_size,
        n_sequences: args.limits.parallel,
        chunk: args.model.chunk,
        ..EngineOptions::default()
    };
    let n_ctx = options.context(&ModelConfig::from_file(file)?);
    let all = n_ctx.saturating_mul(options.n_sequences);
    let usual = all.min(CACHE_TOKENS.max(n_ctx));
    options.cache_tokens = Some(args.limits.cache_tokens.unwrap_or(usual));
    Ok(options)
}
