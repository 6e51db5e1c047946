//! A text of which the logits are wanted.

use std::ops::{ControlFlow, Range};

use onward_kernels::Result;

use crate::model::Runner;

/// Rows whose logits are looked at together: enough for the matmul to be one, few enough that a
/// vocabulary of 262144 takes 32 MB.
pub(crate) const LOGIT_ROWS: usize = 32;

/// Hears of the logits that follow a position; breaks to end.
pub(crate) type OnLogits<'s> = dyn FnMut(usize, &[f32]) -> ControlFlow<()> + 's;

/// Hands the logits of the `positions` in a pass to `listener`, in order; `rows` are the pass's rows
/// of a sequence, the first of them at `first`. Whether it wants to hear on.
///
/// # Errors
/// What the device says.
pub(crate) fn tell_logits(
    runner: &mut dyn Runner,
    vocab: usize,
    (rows, first): (Range<usize>, usize),
    positions: &Range<usize>,
    listener: &mut OnLogits<'_>,
) -> Result<ControlFlow<()>> {
    let start = rows.start;
    let position = |row: usize| first + row - start;
    let wanted: Vec<usize> = rows
        .filter(|&row| positions.contains(&position(row)))
        .collect();
    for rows in wanted.chunks(LOGIT_ROWS) {
        let logits = runner.logits(rows)?;
        for (&row, logits) in rows.iter().zip(logits.chunks(vocab)) {
            if listener(position(row), logits).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}
