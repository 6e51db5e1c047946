//! The arguments of the operation: many rows, each with parameters of its own.

use super::OP;
use super::params::SamplingParams;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::{check_room, shape_error};

/// What a row is drawn by; the arguments of [`Sampler::sample`](super::Sampler::sample).
#[derive(Clone, Copy, Debug)]
pub struct SampleRow<'a> {
    /// The request's parameters.
    pub params: &'a SamplingParams,
    /// The token ids so far, prompt and generated, for the penalties.
    pub history: &'a [u32],
    /// Of the token drawn in its sequence; with the seed it keys the noise.
    pub position: u64,
    /// Bit `t % 32` of word `t / 32` says whether token `t` may be drawn; none: all may.
    pub allowed: Option<&'a [u32]>,
}

/// Arguments of [`Backend::sample`]. A row that cannot be drawn has an error of its own, the one
/// of [`Sampler::sample`](super::Sampler::sample), and leaves the others alone.
pub struct Sample<'a, B: Backend + ?Sized> {
    /// `[rows.len(), vocab]`.
    pub logits: &'a B::Buffer,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The rows.
    pub rows: &'a [SampleRow<'a>],
    /// How many of the most probable tokens to report of each row.
    pub n_top: usize,
}

impl<B: Backend + ?Sized> Sample<'_, B> {
    /// Checks the shapes.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for an array that is too short, or rows of no
    /// logits.
    pub fn check(&self) -> Result<()> {
        if self.vocab == 0 {
            return Err(shape_error(OP, "a row of no logits".into()));
        }
        check_room(OP, "logits", self.logits, &[self.rows.len(), self.vocab])
    }
}
