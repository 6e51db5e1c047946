//! Several requests that share forward passes.
//!
//! While a prompt is read, a round is one pass over what fits of all requests: pieces of prompts,
//! and the last tokens of those that write already. Once all write, the decoder goes on by itself:
//! steps are asked for ahead of their tokens, and a round takes one token of each request. When a
//! request ends, no further step begins, and those under way are waited for before the rows are
//! set anew.

use std::ops::ControlFlow;

use onward_kernels::Batch;

use super::generation::Generation;
use crate::api::Event;
use crate::error::{Error, Result};
use crate::model::Runner;

/// Hears of an event of the lane of this index; breaks to interrupt it.
pub(crate) type Listener<'a> = dyn FnMut(usize, Event) -> ControlFlow<()> + 'a;

/// Requests on their way together; a lane's index is its slot in the decoder.
pub(crate) struct Rounds<'a> {
    runner: &'a mut dyn Runner,
    batch: Batch,
    /// The lanes whose tokens the decoder's steps run, row by row.
    rows: Vec<usize>,
    /// Steps that were asked for and whose tokens were not taken yet.
    under_way: usize,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(runner: &'a mut dyn Runner) -> Self {
        Self {
            runner,
            batch: Batch::default(),
            rows: Vec::new(),
            under_way: 0,
        }
    }

    /// Serves all lanes to their ends.
    ///
    /// # Errors
    /// A lane whose logits are broken, a full cache, or a failing device.
    pub(crate) fn run(
        &mut self,
        lanes: &mut [Generation<'_>],
        on_event: &mut Listener<'_>,
    ) -> Result<()> {
        let served = self.serve(lanes, on_event);
        // Whoever is interrupted or fails leaves steps under way, which nobody waits for.
        let halted = match std::mem::take(&mut self.under_way) {
            0 => Ok(()),
            _ => self.runner.halt(),
        };
        served.and(halted.map_err(Error::from))
    }

    fn serve(&mut self, lanes: &mut [Generation<'_>], on_event: &mut Listener<'_>) -> Result<()> {
        while lanes.iter().any(|lane| !lane.is_finished()) {
            if lanes.iter().any(Generation::is_reading) {
                self.read(lanes, on_event)?;
            } else {
                self.write(lanes, on_event)?;
            }
        }
        Ok(())
    }

    /// One pass over what fits of the unfinished lanes, then a token for each lane whose prompt
    /// is complete.
    fn read(&mut self, lanes: &mut [Generation<'_>], on_event: &mut Listener<'_>) -> Result<()> {
        self.drain(lanes, on_event)?;
        self.rows.clear();
        self.batch.clear();
        let (mut taken, mut rows, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for (index, lane) in lanes.iter_mut().enumerate() {
            let budget = self.runner.max_rows() - self.batch.n_rows();
            if lane.is_finished() || budget == 0 {
                continue;
            }
            let starts = lane.is_reading();
            if let Some(row) = lane.fill(&mut self.batch, budget)? {
                rows.push(row);
                slots.push(index);
                if starts {
                    self.runner.start(index, &lane.start())?;
                }
            }
            taken.push(index);
        }
        if taken.is_empty() {
            return Ok(());
        }
        self.runner.forward(&self.batch)?;
        for index in taken {
            lanes[index].commit(&mut |event| on_event(index, event));
        }
        if !slots.is_empty() {
            self.runner.draw(&rows, &slots)?;
        }
        for index in slots {
            self.take(index, &mut lanes[index], on_event)?;
        }
        Ok(())
    }

    /// A token for each unfinished lane, all of which write.
    fn write(&mut self, lanes: &mut [Generation<'_>], on_event: &mut Listener<'_>) -> Result<()> {
        if self.rows.iter().any(|&lane| lanes[lane].is_finished()) {
            self.drain(lanes, on_event)?;
            self.rows.clear();
        }
        while let Some(n) = self.room(lanes) {
            let ahead = self.under_way + n;
            for lane in lanes.iter_mut().filter(|lane| !lane.is_finished()) {
                lane.reserve(ahead)?;
            }
            if self.has_pages(lanes)? {
                self.under_way += self.runner.steps(n)?;
            } else {
                self.drain(lanes, on_event)?;
                self.set_rows(lanes)?;
            }
        }
        match self.under_way {
            0 => Ok(()),
            _ => self.take_one_each(lanes, on_event),
        }
    }

    /// Steps to ask for now, if any. A decoder that runs far ahead is asked once half of its steps
    /// are done: seldom, and before it runs out of them.
    fn room(&self, lanes: &[Generation<'_>]) -> Option<usize> {
        let most = self.runner.run_ahead();
        let room = most.saturating_sub(self.under_way);
        let unfinished = lanes.iter().filter(|lane| !lane.is_finished());
        let n_left = unfinished.map(Generation::n_left).max().unwrap_or(0);
        let n = room.min(n_left.saturating_sub(self.under_way));
        (room >= most / 2 && n > 0).then_some(n)
    }

    /// Gives the rows of the steps the pages of their lanes; false where they are to be set anew.
    fn has_pages(&mut self, lanes: &[Generation<'_>]) -> Result<bool> {
        for (row, &lane) in self.rows.iter().enumerate() {
            if !self.runner.grow(row, lanes[lane].pages())? {
                return Ok(false);
            }
        }
        Ok(!self.rows.is_empty())
    }

    /// Has the steps run the unfinished lanes.
    fn set_rows(&mut self, lanes: &[Generation<'_>]) -> Result<()> {
        let unfinished = lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| !lane.is_finished());
        let (indices, rows): (Vec<_>, Vec<_>) = unfinished
            .map(|(index, lane)| (index, lane.step_row(index)))
            .unzip();
        self.rows = indices;
        Ok(self.runner.set_rows(&rows)?)
    }

    /// Takes the tokens of the steps under way that can be kept from beginning no more.
    fn drain(&mut self, lanes: &mut [Generation<'_>], on_event: &mut Listener<'_>) -> Result<()> {
        if std::mem::take(&mut self.under_way) == 0 {
            return Ok(());
        }
        self.runner.halt()?;
        for row in 0..self.rows.len() {
            let index = self.rows[row];
            let lane = &mut lanes[index];
            while !lane.is_finished()
                && let Some(sampled) = self.runner.take(index)?
            {
                lane.commit_last();
                lane.advance(sampled?, &mut |event| on_event(index, event))?;
            }
        }
        Ok(())
    }

    /// Takes the tokens of the first step under way.
    fn take_one_each(
        &mut self,
        lanes: &mut [Generation<'_>],
        on_event: &mut Listener<'_>,
    ) -> Result<()> {
        self.under_way -= 1;
        for row in 0..self.rows.len() {
            let index = self.rows[row];
            let lane = &mut lanes[index];
            if !lane.is_finished() {
                lane.commit_last();
                self.take(index, lane, on_event)?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        index: usize,
        lane: &mut Generation<'_>,
        on_event: &mut Listener<'_>,
    ) -> Result<()> {
        // A listener may have broken off when it heard of the prompt.
        if lane.is_finished() {
            return Ok(());
        }
        let sampled = self.runner.take(index)?.ok_or_else(no_token)?;
        lane.advance(sampled?, &mut |event| on_event(index, event))
    }
}

/// A device that is idle and owes a token.
fn no_token() -> Error {
    Error::Kernel(onward_kernels::Error::Device {
        device: "decoder".to_owned(),
        detail: "a step was done but drew no token".to_owned(),
    })
}
