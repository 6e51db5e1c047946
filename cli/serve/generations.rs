//! The completions of one HTTP request while the engine works on them.

use std::ops::ControlFlow;

use onward_engine::{Request, RequestId, Service, Update};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::app::{App, Loaded};
use super::protocol::error::ApiError;
use super::tokens;

/// Requests that the engine has taken. Dropping it breaks off those that are not done: a client
/// that goes away drops it.
pub(crate) struct Generations {
    service: Service,
    /// By index; none once it is done.
    ids: Vec<Option<RequestId>>,
    /// Holds at most as much as the requests may generate.
    updates: UnboundedReceiver<(usize, Update)>,
}

impl Generations {
    /// Hands all requests to the engine, or none. `param` names the field that has the prompt.
    ///
    /// # Errors
    /// What the engine refuses.
    pub(crate) async fn start(
        app: &App,
        requests: Vec<Request>,
        param: &'static str,
    ) -> Result<Self, ApiError> {
        // A grammar takes a while to compile. Where the client has left meanwhile, what this
        // returns is dropped, and its requests with it.
        let start = move |loaded: &Loaded| Self::submit(&loaded.service, requests, param);
        tokens::blocking(app, start).await
    }

    fn submit(service: &Service, requests: Vec<Request>, param: &str) -> Result<Self, ApiError> {
        let (sender, updates) = unbounded_channel();
        let mut generations = Self {
            service: service.clone(),
            ids: Vec::with_capacity(requests.len()),
            updates,
        };
        for (index, request) in requests.into_iter().enumerate() {
            let sender = sender.clone();
            let id = service
                .submit(request, move |update| match sender.send((index, update)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
                .map_err(|refusal| ApiError::refused(refusal, param))?;
            generations.ids.push(Some(id));
        }
        Ok(generations)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The next update with its request's index; none once all are done.
    pub(crate) async fn next(&mut self) -> Option<(usize, Update)> {
        if self.ids.iter().all(Option::is_none) {
            return None;
        }
        let (index, update) = self.updates.recv().await?;
        if matches!(update, Update::Finished(_) | Update::Failed(_)) {
            self.ids[index] = None;
        }
        Some((index, update))
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        for id in self.ids.iter().flatten() {
            self.service.cancel(*id);
        }
    }
}
