//! The device's part: passes and steps, and what is drawn by them.

use std::ops::ControlFlow;
use std::time::Instant;

use onward_kernels::decode::StepRow;
use onward_kernels::ops::sample::Sampled;

use super::Batching;
use super::lane::Lane;
use crate::api::{Event, FinishReason};
use crate::decode::evaluating::tell_logits;
use crate::error::{Error, Result};
use crate::schedule::{Id, Piece, Row};

impl Batching<'_> {
    /// One forward pass, and a token for each request whose last token is in it.
    pub(super) fn pass(&mut self, pieces: &[Piece]) -> Result<()> {
        self.batch.clear();
        let mut draws = Vec::new();
        for piece in pieces {
            let tokens = &self.scheduler.tokens(piece.id)[piece.tokens.clone()];
            let pages = self.scheduler.pages(piece.id);
            self.batch.push(tokens, piece.tokens.start, pages);
            if piece.starts {
                self.start(piece)?;
            }
            if piece.draws {
                draws.push((piece, self.batch.n_rows() - 1));
            }
        }
        self.runner.forward(&self.batch)?;
        self.restrict(&draws)?;
        self.report_prompts(pieces)?;
        draws.retain(|(piece, _)| self.lanes.contains_key(&piece.id));
        if !draws.is_empty() {
            let rows: Vec<usize> = draws.iter().map(|&(_, row)| row).collect();
            let slots: Vec<usize> = draws.iter().map(|&(piece, _)| piece.slot).collect();
            self.runner.draw(&rows, &slots)?;
        }
        self.scheduler.ran();
        for piece in pieces {
            self.report_progress(piece);
        }
        for (piece, _) in draws {
            let row = Row {
                id: piece.id,
                slot: piece.slot,
            };
            self.take(row)?;
        }
        Ok(())
    }

    /// Tells the decoder how the tokens behind a piece are to be drawn.
    fn start(&mut self, piece: &Piece) -> Result<()> {
        let Some(Lane::Writing(writing)) = self.lanes.get_mut(&piece.id) else {
            return Ok(());
        };
        match writing.transcript.start(self.scheduler.tokens(piece.id)) {
            Ok(start) => Ok(self.runner.start(piece.slot, &start)?),
            Err(error) => {
                self.fail(piece.id, error);
                Ok(())
            }
        }
    }

    /// Has the draws of this pass heed what grammars allow; the pass runs meanwhile.
    fn restrict(&mut self, draws: &[(&Piece, usize)]) -> Result<()> {
        for (piece, _) in draws {
            let Some(Lane::Writing(writing)) = self.lanes.get_mut(&piece.id) else {
                continue;
            };
            let Some(steering) = writing.transcript.steering() else {
                continue;
            };
            match steering.mask() {
                Ok(mask) => self.runner.set_mask(piece.slot, mask)?,
                Err(error) => self.fail(piece.id, error),
            }
        }
        Ok(())
    }

    /// Tells what the pass says of prompts, where that is wanted.
    fn report_prompts(&mut self, pieces: &[Piece]) -> Result<()> {
        let mut next_row = 0;
        for piece in pieces {
            let rows = next_row..next_row + piece.tokens.len();
            next_row = rows.end;
            let place = (rows.clone(), piece.tokens.start);
            let vocab = self.info.config.vocab_size;
            match self.lanes.get_mut(&piece.id) {
                Some(Lane::Pooling(pooling)) => {
                    let hidden = self.runner.hidden(rows.end)?;
                    pooling.add(place.1, &hidden[rows.start * self.info.config.width..]);
                }
                Some(Lane::Evaluating(positions, listener)) => {
                    let on = tell_logits(self.runner, vocab, place, positions, listener.as_mut())?;
                    if on.is_break() {
                        self.settle(piece.id);
                    }
                }
                Some(Lane::Writing(writing)) if writing.transcript.request().prompt_logprobs => {
                    let last = writing.transcript.request().prompt.len() - 1;
                    let mut listener = |position: usize, logits: &[f32]| {
                        if let Some(token) = writing.transcript.rate(position + 1, logits) {
                            writing.tell(Event::PromptToken(token));
                        }
                        match writing.transcript.is_finished() {
                            true => ControlFlow::Break(()),
                            false => ControlFlow::Continue(()),
                        }
                    };
                    let _ = tell_logits(self.runner, vocab, place, &(0..last), &mut listener)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells how far a prompt has come.
    fn report_progress(&mut self, piece: &Piece) {
        let is_whole = match self.lanes.get_mut(&piece.id) {
            None => return,
            Some(Lane::Pooling(_) | Lane::Evaluating(..)) => {
                piece.tokens.end == self.scheduler.tokens(piece.id).len()
            }
            Some(Lane::Writing(writing)) => {
                let total = writing.transcript.request().prompt.len();
                if piece.tokens.start < total {
                    let done = piece.tokens.end.min(total);
                    writing.tell(Event::Prefill { done, total });
                }
                // Nothing was to be drawn.
                if piece.tokens.end >= total && writing.transcript.n_left() == 0 {
                    writing.transcript.finish(FinishReason::Length);
                }
                writing.transcript.is_finished()
            }
        };
        if is_whole {
            self.settle(piece.id);
        }
    }

    /// Asks for steps, and takes the tokens of one.
    pub(super) fn steps(&mut self, rows: Vec<Row>, n: usize, is_new: bool) -> Result<()> {
        let is_new = is_new || !self.has_pages()?;
        if is_new && self.scheduler.under_way() > 0 {
            // The decoder has no room for more pages beside the rows as they are.
            return self.drain();
        }
        if is_new {
            self.rows = rows;
            self.set_rows()?;
        }
        if n > 0 {
            let asked = self.runner.steps(n)?;
            self.scheduler.asked(asked);
        }
        if self.scheduler.under_way() > 0 {
            for index in 0..self.rows.len() {
                self.take(self.rows[index])?;
            }
            self.scheduler.stepped();
        }
        Ok(())
    }

    /// Gives the decoder's rows the pages that they have got; false where that takes new rows.
    fn has_pages(&mut self) -> Result<bool> {
        for (index, row) in self.rows.iter().enumerate() {
            let pages = self.scheduler.pages(row.id);
            if !self.runner.grow(index, pages)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn set_rows(&mut self) -> Result<()> {
        let row = |row: &Row| {
            let tokens = self.scheduler.tokens(row.id);
            StepRow {
                slot: row.slot,
                token: tokens.last().copied().unwrap_or_default(),
                position: tokens.len().saturating_sub(1),
                pages: self.scheduler.pages(row.id),
            }
        };
        let rows: Vec<StepRow<'_>> = self.rows.iter().map(row).collect();
        Ok(self.runner.set_rows(&rows)?)
    }

    /// Lets no further step begin, and takes the tokens of those that have.
    pub(super) fn drain(&mut self) -> Result<()> {
        self.runner.halt()?;
        for row in std::mem::take(&mut self.rows) {
            while self.lanes.contains_key(&row.id)
                && let Some(sampled) = self.runner.take(row.slot)?
            {
                self.accept(row.id, sampled);
            }
        }
        self.scheduler.drained();
        Ok(())
    }

    /// Takes the next token of a request that is still served.
    fn take(&mut self, row: Row) -> Result<()> {
        if self.lanes.contains_key(&row.id) {
            let sampled = self.runner.take(row.slot)?.ok_or_else(no_token)?;
            self.accept(row.id, sampled);
        }
        Ok(())
    }

    /// Goes on by what was drawn for a request.
    fn accept(&mut self, id: Id, sampled: onward_kernels::Result<Sampled>) {
        let Some(Lane::Writing(writing)) = self.lanes.get_mut(&id) else {
            return;
        };
        let before = writing.transcript.last_token();
        let token = sampled.map(|sampled| (sampled.token, writing.transcript.take(sampled)));
        match token {
            Err(error) => self.fail(id, error.into()),
            Ok((_, Err(error))) => self.fail(id, error),
            Ok((drawn, Ok(token))) => {
                self.scheduler.drew(id, drawn);
                let now = Instant::now();
                match before {
                    Some(before) => self.metrics.inter_token.record(now - before),
                    None => {
                        let time = now - writing.transcript.asked();
                        self.metrics.time_to_first_token.record(time);
                    }
                }
                if let Some(token) = token {
                    self.metrics.generated_tokens += 1;
                    writing.tell(Event::Token(token));
                }
                if writing.transcript.is_finished() {
                    self.settle(id);
                }
            }
        }
    }
}

/// A device that is idle and owes a token.
fn no_token() -> Error {
    Error::Kernel(onward_kernels::Error::Device {
        device: "decoder".to_owned(),
        detail: "a step was done but drew no token".to_owned(),
    })
}
