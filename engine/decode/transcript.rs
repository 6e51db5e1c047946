//! What a request has written so far: from drawn tokens to text, and when it ends.

use std::time::Instant;

use onward_kernels::decode::SampleStart;
use onward_kernels::ops::sample::{SampleRow, Sampled};
use onward_tokenizer::DecodeStream;

use super::stop::{Matched, StopMatcher};
use crate::api::{Completion, FinishReason, ModelInfo, Request, Token, TopToken};
use crate::error::Result;
use crate::sample::{Guide, Steering};

/// The text of a request that is being served.
pub(crate) struct Transcript<'m> {
    request: Request,
    info: &'m ModelInfo,
    stream: DecodeStream<'m>,
    stops: StopMatcher,
    /// A stop text appeared: what follows it is not shown.
    stopped_by_text: bool,
    steering: Option<Steering>,
    n_new: usize,
    /// The last position of the prompt that was rated.
    last_rated: usize,
    cached_tokens: usize,
    clock: Clock,
    finished: Option<FinishReason>,
}

struct Clock {
    asked: Instant,
    begun: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Instant,
}

impl<'m> Transcript<'m> {
    /// Of a request that has been checked, and asked for at `asked`; `guide` is its constraint.
    pub(crate) fn new(
        request: Request,
        guide: Option<Guide>,
        asked: Instant,
        info: &'m ModelInfo,
    ) -> Self {
        Self {
            stream: info.tokenizer.stream_after(&request.prompt),
            stops: StopMatcher::new(&request.stop),
            stopped_by_text: false,
            steering: Steering::new(info.config.vocab_size, request.thinking.as_ref(), guide),
            n_new: 0,
            last_rated: 0,
            cached_tokens: 0,
            clock: Clock {
                asked,
                begun: None,
                first_token: None,
                last_token: asked,
            },
            finished: None,
            info,
            request,
        }
    }

    /// The request.
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// What may be drawn, unless that is everything.
    pub(crate) fn steering(&mut self) -> Option<&mut Steering> {
        self.steering
            .as_mut()
            .filter(|steering| !steering.is_free())
    }

    /// Whether what may be drawn depends on what was drawn.
    pub(crate) fn is_steered(&self) -> bool {
        self.steering.is_some()
    }

    /// When the request came.
    pub(crate) fn asked(&self) -> Instant {
        self.clock.asked
    }

    /// Whether nothing more is to be computed.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// Ends it, unless it has ended.
    pub(crate) fn finish(&mut self, reason: FinishReason) {
        self.finished.get_or_insert(reason);
    }

    /// Takes note that it is being served from now on, and what the cache held of its prompt.
    pub(crate) fn begin(&mut self, cached_tokens: usize) {
        if self.clock.begun.is_none() {
            self.clock.begun = Some(Instant::now());
            self.cached_tokens = cached_tokens;
        }
    }

    /// When its last token came.
    pub(crate) fn last_token(&self) -> Option<Instant> {
        self.clock.first_token.map(|_| self.clock.last_token)
    }

    /// Tokens that may still be drawn.
    pub(crate) fn n_left(&self) -> usize {
        self.request
            .max_new(self.info.n_ctx)
            .saturating_sub(self.n_new)
    }

    /// How the tokens behind `history` are to be drawn: the prompt, and what was drawn already.
    pub(crate) fn start<'a>(&'a mut self, history: &'a [u32]) -> Result<SampleStart<'a>> {
        let max_tokens = self.n_left();
        let allowed = match &mut self.steering {
            Some(steering) => Some(steering.mask()?),
            None => None,
        };
        Ok(SampleStart {
            row: SampleRow {
                params: &self.request.sampling,
                history,
                position: history.len() as u64,
                allowed,
            },
            stops: match self.request.ignore_eos {
                true => &[],
                false => &self.info.stop_ids,
            },
            max_tokens,
            n_top: self.request.top_logprobs,
        })
    }

    /// Takes the next token. What it tells, unless the token only ends the text.
    ///
    /// # Errors
    /// A token that is none, or one that the grammar does not allow.
    pub(crate) fn take(&mut self, sampled: Sampled) -> Result<Option<Token>> {
        let now = Instant::now();
        self.clock.first_token.get_or_insert(now);
        if !self.request.ignore_eos && self.info.stop_ids.contains(&sampled.token) {
            self.finish(FinishReason::Stop);
            return Ok(None);
        }
        self.clock.last_token = now;
        self.n_new += 1;
        let piece = self.stream.push(sampled.token)?;
        let text = match self.stops.push(&piece) {
            Matched::Text(text) => text,
            Matched::Stop(text) => {
                self.finish(FinishReason::Stop);
                self.stopped_by_text = true;
                text
            }
        };
        if let Some(steering) = &mut self.steering
            && steering.accept(sampled.token)?
        {
            self.finish(FinishReason::Stop);
        }
        if self.n_left() == 0 {
            self.finish(FinishReason::Length);
        }
        Ok(Some(Token {
            id: sampled.token,
            text,
            logprob: sampled.logprob,
            top: self.named(&sampled.top),
        }))
    }

    /// The token of the prompt at `position`; the logits are those behind the tokens before it. None
    /// where it was given out before: a request that was preempted reads parts of its prompt again.
    pub(crate) fn rate(&mut self, position: usize, logits: &[f32]) -> Option<Token> {
        if position <= self.last_rated {
            return None;
        }
        self.last_rated = position;
        let id = self.request.prompt[position];
        let (logprob, top) = ranked(logits, id, self.request.top_logprobs);
        Some(Token {
            id,
            text: self.info.tokenizer.token_text(id).unwrap_or_default(),
            logprob,
            top: self.named(&top),
        })
    }

    fn named(&self, top: &[(u32, f32)]) -> Vec<TopToken> {
        let name = |&(id, logprob): &(u32, f32)| TopToken {
            id,
            text: self.info.tokenizer.token_text(id).unwrap_or_default(),
            logprob,
        };
        top.iter().map(name).collect()
    }

    /// The request's outcome.
    pub(crate) fn complete(self) -> Completion {
        let now = Instant::now();
        let Clock {
            asked,
            begun,
            first_token,
            last_token,
        } = self.clock;
        let begun = begun.unwrap_or(now);
        let first = first_token.unwrap_or(now);
        Completion {
            reason: self.finished.unwrap_or(FinishReason::Interrupted),
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: self.cached_tokens,
            new_tokens: self.n_new,
            queue_time: begun - asked,
            prefill_time: first.saturating_duration_since(begun),
            decode_time: last_token.saturating_duration_since(first),
            time_to_first_token: first - asked,
            tail: self.tail(),
        }
    }

    /// Text that was held back and that nothing can turn into a stop text any more.
    fn tail(mut self) -> String {
        if self.stopped_by_text {
            return String::new();
        }
        match self.stops.push(&self.stream.finish()) {
            Matched::Stop(text) => text,
            Matched::Text(text) => text + &self.stops.finish(),
        }
    }
}

/// The natural log-probability of token `id`, and the `n` most probable tokens with theirs: best
/// first, of equal ones the lower id.
fn ranked(logits: &[f32], id: u32, n: usize) -> (f32, Vec<(u32, f32)>) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    let logprob = |x: f32| (f64::from(x - most) - sum.ln()) as f32;
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| {
        let (x, y) = (logits[*a as usize], logits[*b as usize]);
        y.total_cmp(&x).then(a.cmp(b))
    };
    let n = n.min(order.len());
    if n > 0 && n < order.len() {
        order.select_nth_unstable_by(n - 1, by_logit);
    }
    order.truncate(n);
    order.sort_unstable_by(by_logit);
    let top = order.iter().map(|&id| (id, logprob(logits[id as usize])));
    (logprob(logits[id as usize]), top.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ranked_by_probability_then_id() {
        let logits = [1.0_f32, 3.0, 3.0, -2.0, 2.0];
        let (logprob, top) = ranked(&logits, 4, 3);
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        let expected = |x: f64| (x - sum.ln()) as f32;
        assert!((logprob - expected(2.0)).abs() < 1e-6);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2, 4]);
        assert!((top[0].1 - expected(3.0)).abs() < 1e-6);
        assert_eq!(ranked(&logits, 0, 0).1, []);
        assert_eq!(ranked(&logits, 0, 9).1.len(), 5);
    }
}
