//! `sample` on a GPU: a state in device memory that steps move on, and on top of it the
//! operation that takes everything from the host.

mod memory;
mod slot;
mod state;

use std::sync::{Mutex, PoisonError};

pub use memory::SampleShape;
pub(crate) use state::NextInputs;
pub use state::SampleState;
pub(crate) use state::shared_memory;

use super::row::forbidden;
use super::{Sample, SampleRow, Sampled, SamplingParams, adjust};
use crate::cuda::Cuda;
use crate::decode::SampleStart;
use crate::error::{Error, Result};

/// The state that the operation keeps from call to call.
pub(crate) type Kept = Mutex<Option<SampleState>>;

/// Parameters of a row that only tells whether its logits are sound.
static PROBE: SamplingParams = SamplingParams {
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    repeat_last_n: 0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
    logit_bias: Vec::new(),
    seed: 0,
};

pub(crate) fn run(cuda: &Cuda, op: Sample<'_, Cuda>) -> Result<Vec<Result<Sampled>>> {
    if op.rows.is_empty() {
        return Ok(Vec::new());
    }
    let faults: Vec<Fault> = op.rows.iter().map(|row| Fault::of(row, op.vocab)).collect();
    let rows = op.rows.iter().zip(&faults);
    let starts: Vec<SampleStart<'_>> = rows
        .map(|(row, fault)| SampleStart {
            row: match fault {
                Fault::None => *row,
                _ => SampleRow {
                    params: &PROBE,
                    history: &[],
                    position: 0,
                    allowed: None,
                },
            },
            stops: &[],
            max_tokens: 1,
            n_top: op.n_top.min(op.vocab),
        })
        .collect();
    let mut drawn = Vec::with_capacity(starts.len());
    for (sampled, fault) in once(cuda, &op, &starts)?.into_iter().zip(faults) {
        drawn.push(match fault {
            Fault::Params(error) => Err(error),
            Fault::Arguments(error) if sampled.is_ok() => Err(error),
            _ => sampled,
        });
    }
    Ok(drawn)
}

/// What the host finds wrong with a row.
enum Fault {
    None,
    /// A parameter out of its range.
    Params(Error),
    /// A token beyond the vocabulary or a short mask: of less weight than broken logits.
    Arguments(Error),
}

impl Fault {
    fn of(row: &SampleRow<'_>, vocab: usize) -> Self {
        if let Err(error) = row.params.validate() {
            return Self::Params(error);
        }
        let window = adjust::window(row.params, row.history);
        match adjust::check(vocab, row.params, window, row.allowed) {
            Ok(()) => Self::None,
            Err(error) => Self::Arguments(error),
        }
    }
}

/// One step of sequences that begin and end with it.
fn once(
    cuda: &Cuda,
    op: &Sample<'_, Cuda>,
    starts: &[SampleStart<'_>],
) -> Result<Vec<Result<Sampled>>> {
    let shape = SampleShape::of(starts, op.vocab);
    let mut kept = cuda.sampling.lock().unwrap_or_else(PoisonError::into_inner);
    // A state that a failure interrupted is not kept.
    let mut state = match kept.take().filter(|state| state.shape().holds(&shape)) {
        Some(state) => state,
        None => SampleState::new(cuda, &shape)?,
    };
    let slots: Vec<usize> = (0..starts.len()).collect();
    state.start(cuda, &slots, starts)?;
    state.set_rows(cuda, &slots.iter().copied().map(Some).collect::<Vec<_>>())?;
    state.step(cuda, op.logits, starts.len())?;
    let outputs = state.read(cuda, &slots)?;
    *kept = Some(state);
    // Each slot has drawn once.
    let last = |mut outputs: Vec<_>| outputs.pop().unwrap_or_else(|| Err(forbidden(op.vocab)));
    Ok(outputs.into_iter().map(last).collect())
}
