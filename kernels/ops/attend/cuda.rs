//! `attend` on a GPU: one launch where every sequence has one row and no row sees what another one
//! stores, else the two operations' launches. The bits are the same either way.

use super::{Attend, in_turn};
use crate::backend::{Batch, PAGE_TOKENS};
use crate::cuda::Cuda;
use crate::error::Result;
use crate::ops::attention::cuda::append_and_decode;

pub(crate) fn run(cuda: &Cuda, op: Attend<'_, Cuda>) -> Result<()> {
    let is_decoded = op.batch.spans.iter().all(|span| span.rows.len() == 1);
    // A decoder's rows are of different sequences; its batch does not say where they are.
    let is_decoders = cuda.queue().holds_batch();
    match is_decoded && (is_decoders || are_apart(op.batch)) {
        true => append_and_decode(cuda, op),
        false => in_turn(cuda, op),
    }
}

/// Whether no row of a batch of spans of one row sees a page that another row is stored in.
fn are_apart(batch: &Batch) -> bool {
    let last = |position: usize| position / PAGE_TOKENS;
    let spans = || batch.spans.iter();
    let mut stored: Vec<u32> = spans().map(|s| s.block_table[last(s.position)]).collect();
    stored.sort_unstable();
    let is_stored_in = |page| stored.binary_search(page).is_ok();
    let are_different = stored.windows(2).all(|pair| pair[0] != pair[1]);
    let mut before = spans().flat_map(|s| &s.block_table[..last(s.position)]);
    are_different && !before.any(is_stored_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_see_each_other_are_not_apart() {
        let apart = |rows: &[(usize, &[u32])]| {
            let mut batch = Batch::default();
            for &(position, table) in rows {
                batch.push(&[0], position, table);
            }
            are_apart(&batch)
        };
        assert!(apart(&[]) && apart(&[(0, &[0])]));
        // A page that both see and none is stored in, and one behind what is seen.
        assert!(apart(&[(33, &[0, 1]), (40, &[0, 2]), (5, &[3, 1])]));
        // The same page, and the page of an earlier position.
        assert!(!apart(&[(33, &[0, 1]), (34, &[0, 1])]));
        assert!(!apart(&[(70, &[0, 1, 2]), (40, &[3, 1])]));
    }
}
