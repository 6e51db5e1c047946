//! What all requests share: the options, and the model once it is loaded.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderValue, StatusCode};
use onward_engine::{ModelInfo, Service};
use onward_tokenizer::ChatTemplate;

use super::answer::THINK_END;
use super::protocol::error::ApiError;

/// How the server treats requests.
#[derive(Clone)]
pub(crate) struct ServerOptions {
    /// The model's names; the first is its own, the others are aliases.
    pub(crate) model_names: Vec<String>,
    /// What clients must know.
    pub(crate) api_key: Option<String>,
    /// Origins whose pages may use the API.
    pub(crate) cors_origins: Vec<HeaderValue>,
    /// Bytes of a body.
    pub(crate) max_body: usize,
    /// How long a client may take to send a request.
    pub(crate) read_timeout: Duration,
    /// How long a request may take in all.
    pub(crate) timeout: Option<Duration>,
}

/// The server's state; clones share it.
#[derive(Clone)]
pub(crate) struct App {
    shared: Arc<Shared>,
}

/// What is shared.
pub(crate) struct Shared {
    pub(crate) options: ServerOptions,
    /// When the server began, in seconds since 1970.
    pub(crate) created: u64,
    loaded: OnceLock<Loaded>,
    n_ids: AtomicU64,
    id_key: RandomState,
}

/// A loaded model.
pub(crate) struct Loaded {
    pub(crate) service: Service,
    /// A template that is used instead of the model's own.
    pub(crate) template: Option<ChatTemplate>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl App {
    pub(crate) fn new(options: ServerOptions) -> Self {
        let shared = Shared {
            options,
            created: now(),
            loaded: OnceLock::new(),
            n_ids: AtomicU64::new(0),
            id_key: RandomState::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl Shared {
    /// Takes the model; requests are served from now on.
    pub(crate) fn set_loaded(&self, loaded: Loaded) {
        // It is loaded once.
        let _ = self.loaded.set(loaded);
    }

    /// The model.
    ///
    /// # Errors
    /// 503 while it is being loaded.
    pub(crate) fn loaded(&self) -> Result<&Loaded, ApiError> {
        self.loaded.get().ok_or_else(|| {
            ApiError::unavailable("loading", "the model is being loaded")
                .retry_after(Duration::from_secs(1))
        })
    }

    /// The model, if it goes by `name`; any model where no name is given.
    ///
    /// # Errors
    /// 404 for another name, 503 while it is being loaded.
    pub(crate) fn loaded_as(&self, name: Option<&str>) -> Result<&Loaded, ApiError> {
        let names = &self.options.model_names;
        match name {
            Some(name) if !names.iter().any(|known| known == name) => Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "invalid_request_error",
                "model_not_found",
                format!(
                    "there is no model {name:?}: this server has {}",
                    names.join(", ")
                ),
            )
            .naming("model")),
            _ => self.loaded(),
        }
    }

    /// The model's own name.
    pub(crate) fn model_name(&self) -> &str {
        self.options.model_names.first().map_or("", String::as_str)
    }

    /// An id that no other answer has: `kind-` and 16 digits.
    pub(crate) fn new_id(&self, kind: &str) -> String {
        let number = self.n_ids.fetch_add(1, Ordering::Relaxed);
        format!("{kind}-{:016x}", self.id_key.hash_one(number))
    }
}

impl Loaded {
    /// What is known of the model.
    pub(crate) fn model(&self) -> &ModelInfo {
        self.service.model()
    }

    /// Whether answers may begin with a thought.
    pub(crate) fn thinks(&self) -> bool {
        let has_token = self.model().tokenizer.id_of(THINK_END).is_some();
        has_token
            || self
                .template()
                .is_ok_and(|template| template.mentions(THINK_END))
    }

    /// How conversations are written.
    ///
    /// # Errors
    /// 400 where the model has no template.
    pub(crate) fn template(&self) -> Result<&ChatTemplate, ApiError> {
        let own = self.model().chat_template.as_ref();
        self.template.as_ref().or(own).ok_or_else(|| {
            ApiError::invalid(
                "no_chat_template",
                "this model has no chat template: use /v1/completions, or start the server with \
                 --chat-template",
            )
            .naming("messages")
        })
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
