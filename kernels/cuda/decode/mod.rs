//! The decoder on a GPU: the host is not in the loop.
//!
//! What a step reads and what it leaves for the next one lies in device memory at fixed addresses:
//!
//! ```text
//! tokens[R] positions[R] row_spans[R] row_slots[R] spans[R] block_tables[rows, stride]
//! ```
//!
//! The forward pass takes its batch from there, and the sampler writes the tokens it draws, with
//! their positions, back to it. So a step can be repeated as it is: it is recorded as a graph, one
//! for each number of rows (rounded up) and each length of the block tables (a power of two of
//! splits), after it has run once so that all kernels are loaded and all memory is there. Where the
//! driver can, the graph is a loop of the step, which one launch has go around until it has made
//! as many tokens as the host asked for, all sequences are finished, or the host halts it. Surplus
//! rows belong to no slot and write to a spare page.
//!
//! The tokens come to the host through a ring in pinned memory, which it reads without asking the
//! GPU to wait for anything; the stream is only asked whether it still runs, and whether it failed.

mod looping;
mod repeat;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cudarc::driver::sys;

use looping::Looping;
use repeat::Recorded;

use super::abi::{ATTENTION_SPLIT_PAGES, BatchArrays, BatchSpan, SAMPLE_IDLE, SAMPLE_MAX_STOPS};
use super::array::{DeviceArray, failed};
use super::{Buffer, Cuda};
use crate::backend::{Backend, Batch, PAGE_TOKENS};
use crate::decode::{DecodeShape, Decoder, Pass, SampleStart, StepRow};
use crate::error::{Error, Result};
use crate::ops::sample::Sampled;
use crate::ops::sample::cuda::{NextInputs, SampleShape, SampleState};

/// Steps under way at most where each is put on the stream: one runs, two wait, so that the host
/// has two steps' time to ask for the next one. No more, since those that are under way when a
/// caller breaks off run in vain.
const RUN_AHEAD: usize = 3;
/// Tokens of a sequence that are drawn before the host takes them, and steps under way at most in
/// a loop, which can be halted.
const RING: usize = 32;
/// Biases of a sequence.
const MAX_BIASES: usize = 1024;
/// Most probable tokens to report with each token.
const MAX_TOP: usize = 256;
/// Words of a row before the block tables.
const ROW_WORDS: usize = 4 + SPAN_WORDS;
const SPAN_WORDS: usize = size_of::<BatchSpan>() / size_of::<u32>();
/// Looks at the ring between two short sleeps.
const LOOKS: u32 = 64;
/// A sleep between looks: less than the shortest step.
const NAP: Duration = Duration::from_micros(20);

/// What sets graphs apart: rows, and entries of a row's block table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    n_rows: usize,
    stride: usize,
}

/// Sequences that the GPU decodes by itself.
pub struct CudaDecoder {
    shape: DecodeShape,
    /// Rows that there is room for.
    max_rows: usize,
    /// Entries of a block table at most.
    max_stride: usize,
    logits: Buffer,
    state: SampleState,
    words: DeviceArray<u32>,
    key: Key,
    /// Whether a step was put on the stream since the last wait.
    is_under_way: bool,
    /// Pages that each row's block table holds.
    n_pages: Vec<usize>,
    graphs: HashMap<Key, Recorded>,
    looping: Looping,
    /// Whether steps are repeated on the device, as far as is known.
    loops: bool,
    /// Steps that have run with the memory of this generation.
    warm: HashSet<(Key, u64)>,
}

/// The sampling state of a decoder.
fn sample_shape(shape: &DecodeShape) -> SampleShape {
    SampleShape {
        n_slots: shape.n_slots,
        n_rows: padded_rows(shape.n_slots).max(shape.n_logits),
        vocab: shape.vocab,
        history: shape.n_ctx,
        n_biases: MAX_BIASES,
        ring: RING,
        n_top: MAX_TOP.min(shape.vocab),
        top_k: shape.vocab,
    }
}

/// Rows of the step that runs `n_rows`: at most 31 more, for which a page has room.
pub(crate) fn padded_rows(n_rows: usize) -> usize {
    match n_rows {
        0..=PAGE_TOKENS => n_rows.next_power_of_two(),
        _ => n_rows.next_multiple_of(PAGE_TOKENS),
    }
}

/// Entries of a block table for `n_pages` pages.
pub(crate) fn stride(n_pages: usize) -> usize {
    const SPLIT: usize = ATTENTION_SPLIT_PAGES as usize;
    n_pages.div_ceil(SPLIT).next_power_of_two() * SPLIT
}

impl CudaDecoder {
    /// A decoder of no sequences.
    ///
    /// # Errors
    /// More than kernels count, or too little memory.
    pub fn new(cuda: &Cuda, shape: &DecodeShape) -> Result<Self> {
        let max_rows = padded_rows(shape.n_slots);
        let max_stride = stride(shape.n_ctx.div_ceil(PAGE_TOKENS));
        let n_words = max_rows.saturating_mul(ROW_WORDS + max_stride);
        let n_logits = shape.n_logits.max(max_rows);
        Ok(Self {
            shape: *shape,
            max_rows,
            max_stride,
            logits: cuda.buffer(n_logits.saturating_mul(shape.vocab))?,
            state: SampleState::new(cuda, &sample_shape(shape))?,
            words: DeviceArray::zeroed(&cuda.device, "the state of decoding", n_words)?,
            key: Key::default(),
            is_under_way: false,
            n_pages: Vec::new(),
            graphs: HashMap::new(),
            looping: Looping::new(cuda)?,
            loops: cuda.uses_loop(),
            warm: HashSet::new(),
        })
    }

    /// Bytes of device memory that a decoder of this shape takes, graphs not counted.
    pub(crate) fn bytes(shape: &DecodeShape) -> usize {
        let max_rows = padded_rows(shape.n_slots);
        let words = max_rows * (ROW_WORDS + stride(shape.n_ctx.div_ceil(PAGE_TOKENS)));
        let logits = shape.n_logits.max(max_rows).saturating_mul(shape.vocab);
        words
            .saturating_add(logits)
            .saturating_mul(size_of::<u32>())
            .saturating_add(sample_shape(shape).bytes())
            .saturating_add(Looping::bytes())
    }

    fn word(&self, row_arrays: usize) -> *mut u32 {
        self.words
            .pointer()
            .wrapping_add(row_arrays * self.max_rows)
    }

    fn spans(&self) -> *mut BatchSpan {
        self.word(4).cast()
    }

    fn tables(&self) -> *mut u32 {
        self.word(ROW_WORDS)
    }

    fn arrays(&self) -> BatchArrays {
        BatchArrays {
            tokens: self.word(0),
            positions: self.word(1),
            row_spans: self.word(2),
            spans: self.spans(),
            block_tables: self.tables(),
            // At most as many as slots, rounded up.
            n_rows: self.key.n_rows as u32,
            n_spans: self.key.n_rows as u32,
        }
    }

    /// The content of `words`: the rows, and behind them those that fill the step up.
    fn flatten(&self, rows: &[StepRow<'_>], key: Key) -> Vec<u32> {
        let header = self.max_rows * ROW_WORDS;
        let mut words = vec![0; header + key.n_rows * key.stride];
        for index in 0..key.n_rows {
            let (token, position, slot, pages) = match rows.get(index) {
                Some(row) => (row.token, row.position, row.slot as u32, row.pages),
                None => {
                    let position = index - rows.len();
                    let spare = std::slice::from_ref(&self.shape.spare_page);
                    (0, position, SAMPLE_IDLE, spare)
                }
            };
            let (index32, position) = (index as u32, position as u32);
            let first_entry = (index * key.stride) as u32;
            for (array, value) in [token, position, index32, slot].into_iter().enumerate() {
                words[array * self.max_rows + index] = value;
            }
            let span = 4 * self.max_rows + SPAN_WORDS * index;
            words[span..span + SPAN_WORDS].copy_from_slice(&[index32, 1, position, first_entry]);
            let table = header + index * key.stride;
            words[table..table + pages.len()].copy_from_slice(pages);
        }
        words
    }

    /// Puts a step on the stream, launch by launch.
    fn run(&mut self, cuda: &Cuda, pass: &mut Pass<'_, Cuda>) -> Result<()> {
        let held = cuda.hold_batch(self.arrays());
        pass(&shape_batch(self.key), &mut self.logits)?;
        drop(held);
        let next = NextInputs {
            tokens: self.word(0),
            positions: self.word(1),
            spans: self.spans(),
        };
        let (row_slots, n_rows) = (self.word(3).cast_const(), self.key.n_rows);
        // SAFETY: the arrays have an element for each of the step's rows, the slots were checked
        // when the rows were set, and the decoder outlives its steps, for dropping its memory
        // waits for the stream.
        unsafe { (self.state).step_of(cuda, &self.logits, n_rows, row_slots, next) }
    }
}

/// A batch that has the numbers of a step; what it says of tokens and places is not looked at,
/// but places are different ones.
fn shape_batch(key: Key) -> Batch {
    let mut batch = Batch::default();
    let mut table = vec![0; key.stride];
    for row in 0..key.n_rows {
        table[0] = (row / PAGE_TOKENS) as u32;
        batch.push(&[0], row % PAGE_TOKENS, &table);
    }
    batch
}

impl Decoder<Cuda> for CudaDecoder {
    fn logits(&mut self) -> &mut Buffer {
        &mut self.logits
    }

    fn start(&mut self, cuda: &Cuda, slot: usize, start: &SampleStart<'_>) -> Result<()> {
        let start = SampleStart {
            // The caller sees the others itself; what is drawn behind them is not taken.
            stops: &start.stops[..start.stops.len().min(SAMPLE_MAX_STOPS as usize)],
            ..*start
        };
        if std::mem::take(&mut self.is_under_way) {
            // It may still publish a token of the sequence before.
            cuda.device.synchronise()?;
        }
        self.state.start(cuda, &[slot], &[start])
    }

    fn set_mask(&mut self, cuda: &Cuda, slot: usize, allowed: &[u32]) -> Result<()> {
        self.state.set_mask(cuda, slot, allowed)
    }

    fn draw(&mut self, cuda: &Cuda, slots: &[usize]) -> Result<()> {
        let rows: Vec<_> = slots.iter().copied().map(Some).collect();
        self.state.set_rows(cuda, &rows)?;
        self.state.step(cuda, &self.logits, slots.len())
    }

    fn set_rows(&mut self, cuda: &Cuda, rows: &[StepRow<'_>]) -> Result<()> {
        let most = rows.iter().map(|row| row.pages.len()).max().unwrap_or(0);
        let key = Key {
            n_rows: padded_rows(rows.len()),
            stride: stride(most.max(1)),
        };
        self.state.check_slots(rows.iter().map(|row| row.slot))?;
        if key.n_rows > self.max_rows || key.stride > self.max_stride {
            return Err(Error::Parameter(format!(
                "a step of {} rows and {most} pages is more than {} and {}",
                rows.len(),
                self.max_rows,
                self.max_stride
            )));
        }
        self.key = key;
        self.n_pages = rows.iter().map(|row| row.pages.len()).collect();
        if rows.is_empty() {
            self.key.n_rows = 0;
            return Ok(());
        }
        let words = self.flatten(rows, key);
        self.words.write(&cuda.device, &words)
    }

    fn grow(&mut self, cuda: &Cuda, row: usize, pages: &[u32]) -> Result<bool> {
        let Some(known) = self.n_pages.get(row).copied() else {
            return Ok(false);
        };
        if pages.len() > self.key.stride {
            return Ok(false);
        }
        let table = self.tables().wrapping_add(row * self.key.stride);
        cuda.device.bind()?;
        for (entry, &page) in pages.iter().enumerate().skip(known) {
            // Needs no memory of the host, and so no wait: the value is in the command.
            // SAFETY: the entry lies in the decoder's words.
            unsafe {
                sys::cuMemsetD32Async(
                    table.wrapping_add(entry) as sys::CUdeviceptr,
                    page,
                    1,
                    cuda.device.stream().cu_stream(),
                )
            }
            .result()
            .map_err(|error| failed("give a sequence a page", error))?;
        }
        self.n_pages[row] = known.max(pages.len());
        Ok(true)
    }

    fn steps(&mut self, cuda: &Cuda, n: usize, pass: &mut Pass<'_, Cuda>) -> Result<usize> {
        if n == 0 || self.key.n_rows == 0 {
            return Ok(0);
        }
        self.is_under_way = true;
        let put = self.put_steps(cuda, n, pass);
        self.loops = cuda.uses_loop();
        put
    }

    fn run_ahead(&self) -> usize {
        match self.loops {
            true => RING,
            false => RUN_AHEAD,
        }
    }

    fn halt(&mut self, _cuda: &Cuda) -> Result<()> {
        self.looping.halt();
        Ok(())
    }

    fn take(&mut self, cuda: &Cuda, slot: usize) -> Result<Option<Result<Sampled>>> {
        for look in 1_u32.. {
            if let Some(sampled) = self.state.next(slot)? {
                return Ok(Some(sampled));
            }
            if cuda.device.is_idle()? {
                break;
            }
            match look.is_multiple_of(LOOKS) {
                true => std::thread::sleep(NAP),
                false => std::hint::spin_loop(),
            }
        }
        // The last step may have come between the two looks.
        self.state.next(slot)
    }
}

impl Drop for CudaDecoder {
    fn drop(&mut self) {
        self.looping.halt();
        // A graph is not to be destroyed while it runs. An error is the device's last word, which
        // whoever uses it next will hear.
        let _ = self.state.synchronise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_surplus_and_all_have_a_place_in_the_spare_page() {
        for n_rows in 1..1000 {
            let padded = padded_rows(n_rows);
            assert!(padded >= n_rows && padded - n_rows < PAGE_TOKENS);
            assert_eq!(padded_rows(padded), padded);
        }
    }

    #[test]
    fn tables_are_whole_splits_and_few_lengths() {
        assert_eq!([1, 8, 9, 16, 17, 33].map(stride), [8, 8, 16, 16, 32, 64]);
    }
}
