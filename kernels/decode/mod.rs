//! Decoding: sequences whose tokens are drawn one after another, each the input of the next pass.
//!
//! A [`Decoder`] holds the sequences of a batch. On a GPU it keeps their last tokens, positions,
//! parameters and random counters in device memory, so that a step (forward pass and draw) needs
//! nothing from the host: steps are recorded once, repeated, and enqueued ahead of their results.
//! Elsewhere [`HostDecoder`] does the same with ordinary calls. The tokens are the same.

mod host;

pub use host::HostDecoder;

use crate::backend::{Backend, Batch};
use crate::error::Result;
use crate::ops::sample::{SampleRow, Sampled};

/// How much a [`Decoder`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeShape {
    /// Sequences, which is also the most rows of a step.
    pub n_slots: usize,
    /// Rows of logits that there is room for.
    pub n_logits: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Positions of a sequence.
    pub n_ctx: usize,
    /// A page of the KV cache that belongs to no sequence: rows that only fill a step up go there.
    pub spare_page: u32,
}

/// A sequence to begin.
#[derive(Clone, Copy, Debug)]
pub struct SampleStart<'a> {
    /// Parameters, the tokens behind, the position of the first token drawn, and the mask, which
    /// can change between steps.
    pub row: SampleRow<'a>,
    /// Tokens that finish the sequence.
    pub stops: &'a [u32],
    /// Tokens after which it is finished.
    pub max_tokens: usize,
    /// Most probable tokens to report with each.
    pub n_top: usize,
}

/// A row of the steps to come: the sequence of a slot, whose last token is yet to be run.
#[derive(Clone, Copy, Debug)]
pub struct StepRow<'a> {
    /// The slot whose sequence it is.
    pub slot: usize,
    /// The last token.
    pub token: u32,
    /// Its position.
    pub position: usize,
    /// The sequence's pages, at least to `position`.
    pub pages: &'a [u32],
}

/// The forward pass of a step: runs the batch and leaves the logits of row `i` in row `i` of the
/// buffer.
pub type Pass<'a, B> = dyn FnMut(&Batch, &mut <B as Backend>::Buffer) -> Result<()> + 'a;

/// Sequences that are decoded together.
pub trait Decoder<B: Backend + ?Sized>: Send {
    /// `[n_logits, vocab]`: where a forward pass leaves the logits that [`draw`](Self::draw) reads.
    fn logits(&mut self) -> &mut B::Buffer;

    /// Begins a sequence in `slot`, whatever it held. Waits for steps under way.
    ///
    /// # Errors
    /// A parameter out of its range, or more than the decoder holds.
    fn start(&mut self, backend: &B, slot: usize, start: &SampleStart<'_>) -> Result<()>;

    /// Replaces the mask of a sequence that began with one: bit `t % 32` of word `t / 32` says
    /// whether token `t` may be drawn.
    ///
    /// # Errors
    /// A mask that is too short.
    fn set_mask(&mut self, backend: &B, slot: usize, allowed: &[u32]) -> Result<()>;

    /// Draws a token for each of `slots` from the logits, row `i` for `slots[i]`.
    ///
    /// # Errors
    /// What the device says. A row that cannot be drawn has its error among the tokens.
    fn draw(&mut self, backend: &B, slots: &[usize]) -> Result<()>;

    /// Says what the following steps run. Tokens of steps under way are to be taken before.
    ///
    /// # Errors
    /// Rows that do not fit, or what the device says.
    fn set_rows(&mut self, backend: &B, rows: &[StepRow<'_>]) -> Result<()>;

    /// Gives row `row` of the steps to come more pages: `pages` are all of its sequence. False
    /// where that takes [`set_rows`](Self::set_rows).
    ///
    /// # Errors
    /// What the device says.
    fn grow(&mut self, backend: &B, row: usize, pages: &[u32]) -> Result<bool>;

    /// Asks for up to `n` steps; how many, which is at least one, or none where there are no rows.
    /// A step runs the rows' last tokens and draws the next ones, which are the last ones then. A
    /// sequence that is finished draws nothing more, and need not have pages for more.
    ///
    /// # Errors
    /// What the device says.
    fn steps(&mut self, backend: &B, n: usize, pass: &mut Pass<'_, B>) -> Result<usize>;

    /// Steps that may be under way: asked for, and their tokens not taken yet. One where a step is
    /// done when it was asked for.
    fn run_ahead(&self) -> usize;

    /// Keeps steps that were asked for from beginning, as far as they have not begun and can be
    /// kept. The tokens of the others are still to be taken, until there are none.
    ///
    /// # Errors
    /// What the device says.
    fn halt(&mut self, backend: &B) -> Result<()>;

    /// The next token that `slot` drew and that was not taken yet, once it is there; none where
    /// nothing is under way.
    ///
    /// # Errors
    /// What the device says; the inner result is the row's own.
    fn take(&mut self, backend: &B, slot: usize) -> Result<Option<Result<Sampled>>>;
}
