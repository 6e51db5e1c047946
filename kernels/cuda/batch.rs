//! The device's copy of a [`Batch`]: one array, so that it goes over in one copy.

use super::abi::{BatchArrays, BatchSpan};
use super::array::DeviceArray;
use super::device::Device;
use crate::backend::Batch;
use crate::error::{Error, Result};

/// Words that a [`BatchSpan`] takes.
const SPAN_WORDS: usize = size_of::<BatchSpan>() / size_of::<u32>();

/// The last batch, on the host and on the device.
#[derive(Debug, Default)]
pub(crate) struct DeviceBatch {
    batch: Batch,
    words: Option<DeviceArray<u32>>,
}

/// Words of a batch of `n_rows` rows in `n_spans` spans, whose block tables have `n_entries`.
pub(super) fn n_words(n_rows: usize, n_spans: usize, n_entries: usize) -> usize {
    n_rows
        .saturating_mul(3)
        .saturating_add(n_spans.saturating_mul(SPAN_WORDS))
        .saturating_add(n_entries)
}

impl DeviceBatch {
    /// Makes room for batches of `n_words` words.
    pub(super) fn reserve(&mut self, device: &Device, n_words: usize) -> Result<()> {
        let held = self.words.as_ref().map_or(0, DeviceArray::len);
        if held < n_words {
            self.words = Some(DeviceArray::uninitialised(device, "a batch", n_words)?);
            self.batch = Batch::default();
        }
        Ok(())
    }

    /// Where `batch` lies, after it was copied there if it is another one than the last.
    pub(crate) fn update(&mut self, device: &Device, batch: &Batch) -> Result<BatchArrays> {
        if self.words.is_none() || self.batch != *batch {
            let words = flatten(batch)?;
            let held = self.words.as_ref().map_or(0, DeviceArray::len);
            if held < words.len() {
                self.reserve(device, words.len().next_power_of_two())?;
            }
            if let Some(array) = &mut self.words {
                array.write(device, &words)?;
            }
            self.batch = batch.clone();
        }
        let base = self
            .words
            .as_ref()
            .map_or(std::ptr::null_mut(), DeviceArray::pointer);
        let (n_rows, n_spans) = (batch.n_rows(), batch.spans.len());
        let word = |index: usize| base.wrapping_add(index).cast_const();
        let spans = n_rows * 3;
        Ok(BatchArrays {
            tokens: word(0),
            positions: word(n_rows),
            row_spans: word(2 * n_rows),
            spans: word(spans).cast::<BatchSpan>(),
            block_tables: word(spans + SPAN_WORDS * n_spans),
            n_rows: n_rows as u32,
            n_spans: n_spans as u32,
        })
    }
}

/// Tokens, positions, the rows' spans, the spans, the block tables.
fn flatten(batch: &Batch) -> Result<Vec<u32>> {
    let too_long = || Error::Shape {
        op: "batch",
        detail: "the batch has more rows or pages than fit in 32 bits".to_owned(),
    };
    let narrow = |n: usize| u32::try_from(n).map_err(|_| too_long());
    let mut words = batch.tokens.clone();
    words.extend_from_slice(&batch.positions);
    for (index, span) in batch.spans.iter().enumerate() {
        words.extend(std::iter::repeat_n(narrow(index)?, span.rows.len()));
    }
    let mut first_entry = 0;
    for span in &batch.spans {
        words.extend([
            narrow(span.rows.start)?,
            narrow(span.rows.len())?,
            narrow(span.position)?,
            narrow(first_entry)?,
        ]);
        first_entry += span.block_table.len();
    }
    narrow(first_entry)?;
    for span in &batch.spans {
        words.extend_from_slice(&span.block_table);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_flattened_in_the_order_of_its_arrays() {
        let mut batch = Batch::default();
        batch.push(&[11, 12], 31, &[7, 3]);
        batch.push(&[13], 0, &[5]);
        let tokens_and_positions = [11, 12, 13, 31, 32, 0];
        let (rows, spans) = ([0, 0, 1], [0, 2, 31, 0, 2, 1, 0, 2]);
        let expected = [&tokens_and_positions[..], &rows, &spans, &[7, 3, 5]].concat();
        assert_eq!(flatten(&batch).unwrap(), expected);
    }
}
