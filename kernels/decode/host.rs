//! A decoder whose state is on the host: for backends that are done when a call returns.

use std::collections::VecDeque;

use super::{DecodeShape, Decoder, Pass, SampleStart, StepRow};
use crate::backend::{Backend, Batch};
use crate::error::{Error, Result};
use crate::ops::sample::{Sample, SampleRow, Sampled, SamplingParams};

/// Sequences that go on by ordinary calls of a backend.
pub struct HostDecoder<B: Backend> {
    shape: DecodeShape,
    logits: B::Buffer,
    slots: Vec<Slot>,
    rows: Vec<Row>,
    batch: Batch,
}

/// A sequence.
#[derive(Debug, Default)]
struct Slot {
    params: SamplingParams,
    history: Vec<u32>,
    position: u64,
    allowed: Option<Vec<u32>>,
    stops: Vec<u32>,
    n_top: usize,
    /// Tokens that may still be drawn; none once it is finished.
    n_left: usize,
    drawn: VecDeque<Result<Sampled>>,
}

/// A row of the steps to come.
#[derive(Debug)]
struct Row {
    slot: usize,
    token: u32,
    position: usize,
    pages: Vec<u32>,
}

impl<B: Backend> HostDecoder<B> {
    /// A decoder of no sequences.
    ///
    /// # Errors
    /// Too little memory for the logits.
    pub fn new(backend: &B, shape: &DecodeShape) -> Result<Self> {
        Ok(Self {
            logits: backend.buffer(Self::bytes(shape) / size_of::<f32>())?,
            slots: (0..shape.n_slots).map(|_| Slot::default()).collect(),
            rows: Vec::new(),
            batch: Batch::default(),
            shape: *shape,
        })
    }

    /// Bytes that a decoder of this shape takes: its logits.
    pub fn bytes(shape: &DecodeShape) -> usize {
        let n_logits = shape.n_logits.max(shape.n_slots);
        n_logits
            .saturating_mul(shape.vocab)
            .saturating_mul(size_of::<f32>())
    }

    fn slot(&mut self, slot: usize) -> Result<&mut Slot> {
        let n_slots = self.slots.len();
        let missing = || Error::Parameter(format!("there is no slot {slot} of {n_slots}"));
        self.slots.get_mut(slot).ok_or_else(missing)
    }
}

impl Slot {
    fn row(&self) -> SampleRow<'_> {
        SampleRow {
            params: &self.params,
            history: &self.history,
            position: self.position,
            allowed: self.allowed.as_deref(),
        }
    }

    /// Takes what was drawn.
    fn push(&mut self, mut drawn: Result<Sampled>) {
        self.n_left -= 1;
        match &mut drawn {
            Ok(sampled) => {
                sampled.top.truncate(self.n_top);
                self.history.push(sampled.token);
                self.position += 1;
                if self.stops.contains(&sampled.token) {
                    self.n_left = 0;
                }
            }
            Err(_) => self.n_left = 0,
        }
        self.drawn.push_back(drawn);
    }
}

impl<B: Backend> Decoder<B> for HostDecoder<B> {
    fn logits(&mut self) -> &mut B::Buffer {
        &mut self.logits
    }

    fn start(&mut self, _backend: &B, slot: usize, start: &SampleStart<'_>) -> Result<()> {
        start.row.params.validate()?;
        *self.slot(slot)? = Slot {
            params: start.row.params.clone(),
            history: start.row.history.to_vec(),
            position: start.row.position,
            allowed: start.row.allowed.map(<[u32]>::to_vec),
            stops: start.stops.to_vec(),
            n_top: start.n_top,
            n_left: start.max_tokens,
            drawn: VecDeque::new(),
        };
        Ok(())
    }

    fn set_mask(&mut self, _backend: &B, slot: usize, allowed: &[u32]) -> Result<()> {
        self.slot(slot)?.allowed = Some(allowed.to_vec());
        Ok(())
    }

    fn draw(&mut self, backend: &B, slots: &[usize]) -> Result<()> {
        for &slot in slots {
            self.slot(slot)?;
        }
        let rows: Vec<SampleRow<'_>> = slots.iter().map(|&slot| self.slots[slot].row()).collect();
        let n_top = slots.iter().map(|&slot| self.slots[slot].n_top).max();
        let drawn = backend.sample(Sample {
            logits: &self.logits,
            vocab: self.shape.vocab,
            rows: &rows,
            n_top: n_top.unwrap_or(0),
        })?;
        for (&slot, drawn) in slots.iter().zip(drawn) {
            let slot = &mut self.slots[slot];
            if slot.n_left > 0 {
                slot.push(drawn);
            }
        }
        Ok(())
    }

    fn set_rows(&mut self, _backend: &B, rows: &[StepRow<'_>]) -> Result<()> {
        for row in rows {
            self.slot(row.slot)?;
        }
        let row = |row: &StepRow<'_>| Row {
            slot: row.slot,
            token: row.token,
            position: row.position,
            pages: row.pages.to_vec(),
        };
        self.rows = rows.iter().map(row).collect();
        Ok(())
    }

    fn grow(&mut self, _backend: &B, row: usize, pages: &[u32]) -> Result<bool> {
        let Some(row) = self.rows.get_mut(row) else {
            return Ok(false);
        };
        row.pages.clear();
        row.pages.extend_from_slice(pages);
        Ok(true)
    }

    fn steps(&mut self, backend: &B, n: usize, pass: &mut Pass<'_, B>) -> Result<usize> {
        if n == 0 || self.rows.is_empty() {
            return Ok(0);
        }
        // One by one: the caller hears of each token before the next one is begun.
        self.step(backend, pass)?;
        Ok(1)
    }

    fn run_ahead(&self) -> usize {
        1
    }

    fn halt(&mut self, _backend: &B) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, _backend: &B, slot: usize) -> Result<Option<Result<Sampled>>> {
        Ok(self.slot(slot)?.drawn.pop_front())
    }
}

impl<B: Backend> HostDecoder<B> {
    fn step(&mut self, backend: &B, pass: &mut Pass<'_, B>) -> Result<()> {
        self.batch.clear();
        let mut slots = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            if self.slots[row.slot].n_left > 0 {
                self.batch.push(&[row.token], row.position, &row.pages);
                slots.push(row.slot);
            }
        }
        if slots.is_empty() {
            return Ok(());
        }
        pass(&self.batch, &mut self.logits)?;
        self.draw(backend, &slots)?;
        for row in &mut self.rows {
            let slot = &self.slots[row.slot];
            if let (true, Some(Ok(sampled))) = (slots.contains(&row.slot), slot.drawn.back()) {
                row.token = sampled.token;
                row.position += 1;
            }
        }
        Ok(())
    }
}
