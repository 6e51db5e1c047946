//! The operations, each listed once with the cases it is tested and timed on.
//!
//! A [`Case`] is an operation with all its sizes and seeded random arguments; it can be run on
//! any backend. Tests compare a backend's outputs with those of
//! [`Reference`](crate::Reference); measurements divide a launch's time into its [`Cost`].
//! Being listed in [`registry`] is all an operation needs to be part of both.

mod data;
pub(crate) mod sequences;

use std::fmt;

use crate::backend::Backend;
use crate::error::Result;
use crate::ops::{
    attend, attention, embed, gated, logits, matmul, moe_combine, moe_matmul, moe_route, rms_norm,
    rope_append, sample,
};

pub use data::Random;
pub(crate) use data::{random_experts, random_matrix};
pub use sequences::{Heads, Sequence};

/// Rows that the cases have: one, both sides of a tile of eight, and more than any tile.
pub(crate) const N_ROWS: [usize; 5] = [1, 7, 8, 9, 64];

/// An operation and its cases.
pub struct Entry<B: Backend> {
    /// The operation's name.
    pub name: &'static str,
    /// Edge shapes first of all: one row, one head, sizes beside a tile's.
    pub cases: Vec<Box<dyn Case<B>>>,
}

impl<B: Backend> Entry<B> {
    fn new<C: Case<B> + 'static>(name: &'static str, cases: Vec<C>) -> Self {
        let boxed = |case| Box::new(case) as Box<dyn Case<B>>;
        let cases = cases.into_iter().map(boxed).collect();
        Self { name, cases }
    }
}

/// Every operation, in the order of a forward pass. Two backends' registries list the same
/// cases at the same places.
pub fn registry<B: Backend>() -> Vec<Entry<B>> {
    vec![
        Entry::new(embed::OP, embed::cases::all()),
        Entry::new(rms_norm::OP, rms_norm::cases::all()),
        Entry::new(matmul::OP, matmul::cases::all()),
        Entry::new(rope_append::OP, rope_append::cases::all()),
        Entry::new(attention::OP, attention::cases::all()),
        Entry::new(attend::OP, attend::cases::all()),
        Entry::new(gated::OP, gated::cases::all()),
        Entry::new(moe_route::OP, moe_route::cases::all()),
        Entry::new(moe_matmul::OP, moe_matmul::cases::all()),
        Entry::new(moe_combine::OP, moe_combine::cases::all()),
        Entry::new(logits::OP, logits::cases::all()),
        Entry::new(sample::OP, sample::cases::all()),
    ]
}

/// An operation with sizes and seeded random arguments, of a spread such that outputs have a
/// magnitude of about one. Its `Debug` form names it.
pub trait Case<B: Backend>: fmt::Debug {
    /// Rows of the outputs.
    fn n_rows(&self) -> usize;

    /// The same case with only the first `n_rows` rows, whose outputs must have the same bits.
    fn first_rows(&self, n_rows: usize) -> Box<dyn Case<B>>;

    /// How far a backend's outputs may be from the reference's, by what it says it rounds.
    fn tolerance(&self, backend: &B) -> Tolerance;

    /// What a launch has to move and compute.
    fn cost(&self) -> Cost;

    /// Makes the arguments on a backend.
    ///
    /// # Errors
    /// The backend's, if it cannot hold them.
    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>>;

    /// Outputs of one launch, `[n_rows, …]`.
    ///
    /// # Errors
    /// The backend's.
    fn run(&self, backend: &B) -> Result<Vec<f32>> {
        let mut prepared = self.prepare(backend)?;
        prepared.launch(backend)?;
        prepared.outputs(backend)
    }
}

/// A case whose arguments are on a backend.
pub trait Prepared<B: Backend> {
    /// Runs the operation once.
    ///
    /// # Errors
    /// The backend's.
    fn launch(&mut self, backend: &B) -> Result<()>;

    /// What the launch computed, `[n_rows, …]`.
    ///
    /// # Errors
    /// The backend's.
    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>>;
}

/// Deviations that the sum of many small errors stays within: a normal distribution leaves six
/// once in 5e8.
pub(crate) const NORMAL: f32 = 6.0;

/// How far a fast path may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Standard deviation of the error, over the root mean square of a row's outputs. Derived
    /// from what is rounded, not from what was seen.
    pub deviation: f32,
    /// How many deviations a single error may be.
    pub largest: f32,
    /// Least root mean square to measure against: a row of few outputs may be near zero by
    /// chance where its error is not.
    pub floor: f32,
    /// Where an error of this size comes from.
    pub reason: &'static str,
}

/// The least that a launch moves and computes: each argument read once, each result written
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of weights, activations and cached keys and values.
    pub bytes: usize,
    /// Additions and multiplications.
    pub flops: usize,
}

/// The part of a [`Case`] whose rows are a number and know nothing of one another.
macro_rules! independent_rows {
    () => {
        fn n_rows(&self) -> usize {
            self.n_rows
        }

        fn first_rows(&self, n_rows: usize) -> Box<dyn Case<B>> {
            Box::new(Self {
                n_rows,
                ..self.clone()
            })
        }
    };
}
pub(crate) use independent_rows;

/// The first `len` values of a buffer.
pub(crate) fn fetch<B: Backend>(backend: &B, buffer: &B::Buffer, len: usize) -> Result<Vec<f32>> {
    let mut values = vec![f32::NAN; len];
    backend.download(buffer, 0..len, &mut values)?;
    Ok(values)
}
