//! Sequences whose tokens are drawn step by step on the device.
//!
//! A step reads nothing from the host and waits for nothing: parameters, positions, histories and
//! the slots of the rows lie in device memory, and the step moves them on. So it may be captured
//! in a graph and replayed, each time with the next position. The host reads the tokens when it
//! likes, as long as no ring overflows.

use cudarc::driver::DeviceRepr;

use super::super::{OP, Sampled};
use super::memory::{Memory, SampleShape};
use super::slot::{Upload, sampled};
use crate::cuda::abi::{
    BatchSpan, SAMPLE_IDLE, SAMPLE_SHARED_BYTES, SAMPLE_THREADS, SampleParams, SampleSlot,
    SampleStartParams,
};
use crate::cuda::array::DeviceArray;
use crate::cuda::queue::Launch;
use crate::cuda::{Buffer, Cuda, SharedMemory};
use crate::decode::SampleStart;
use crate::error::{Error, Result};
use crate::ops::{check_room, narrow, shape_error};

/// The passes of a step, in order.
const PASSES: [&str; 4] = ["sample_max", "sample_mass", "sample_narrow", "sample_draw"];

/// What their launches take of shared memory.
pub(crate) fn shared_memory() -> [SharedMemory; 4] {
    PASSES.map(|kernel| SharedMemory::always(kernel, SAMPLE_SHARED_BYTES))
}

/// Where a step leaves what the rows' next pass runs, in device memory: an element a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextInputs {
    /// The tokens drawn.
    pub(crate) tokens: *mut u32,
    /// Their positions; may be null, and the spans are left alone then.
    pub(crate) positions: *mut u32,
    /// Spans of a row each, whose positions these are.
    pub(crate) spans: *mut BatchSpan,
}

/// Slots of sequences and what a step needs beside them.
#[derive(Debug)]
pub struct SampleState {
    shape: SampleShape,
    memory: Memory,
    /// Outputs of each slot that were read.
    n_read: Vec<u32>,
}

// SAFETY: the addresses are of memory that the state owns and that only work on the device's
// stream uses.
unsafe impl Send for SampleState {}
// SAFETY: as above; what changes the state takes it exclusively.
unsafe impl Sync for SampleState {}

/// Puts `values` into `array`, which grows where they do not fit.
fn overwrite<T: DeviceRepr>(array: &mut DeviceArray<T>, cuda: &Cuda, values: &[T]) -> Result<()> {
    match array.len() < values.len() {
        true => *array = DeviceArray::upload(&cuda.device, "sequences", values)?,
        false => array.write(&cuda.device, values)?,
    }
    Ok(())
}

impl SampleState {
    /// A state of no sequences, all of whose rows are idle.
    ///
    /// # Errors
    /// [`Error::Shape`] for sizes beyond what kernels count, [`Error::OutOfMemory`].
    pub fn new(cuda: &Cuda, shape: &SampleShape) -> Result<Self> {
        let mut state = Self {
            shape: *shape,
            memory: Memory::new(&cuda.device, shape)?,
            n_read: vec![0; shape.n_slots],
        };
        state.set_rows(cuda, &[])?;
        Ok(state)
    }

    /// The shape it was made with.
    pub fn shape(&self) -> &SampleShape {
        &self.shape
    }

    /// Begins a sequence in each of `slots`, whatever they held; no step of theirs is under way.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a parameter out of its range, [`Error::Shape`] for a sequence
    /// that does not fit, a slot that does not exist or is named twice; nothing has begun then.
    pub fn start(
        &mut self,
        cuda: &Cuda,
        slots: &[usize],
        starts: &[SampleStart<'_>],
    ) -> Result<()> {
        self.check_slots(slots.iter().copied())?;
        if slots.len() != starts.len() {
            let (n_slots, n_starts) = (slots.len(), starts.len());
            return Err(shape_error(
                OP,
                format!("{n_slots} slots are not enough or too many for {n_starts} sequences"),
            ));
        }
        let mut upload = Upload::default();
        for (&slot, start) in slots.iter().zip(starts) {
            upload.push(start, slot, &self.shape)?;
        }
        let Memory { records, words, .. } = &mut self.memory;
        overwrite(records, cuda, &upload.records)?;
        overwrite(words, cuda, &upload.words)?;
        let (records, words) = (records.pointer(), words.pointer());
        let launch = Launch {
            module: "sample",
            kernel: "sample_start",
            grid: (narrow(OP, starts.len())?, 1, 1),
            threads: SAMPLE_THREADS,
            shared_bytes: 0,
            params: SampleStartParams {
                arrays: self.memory.arrays,
                starts: records,
                words,
            },
        };
        // SAFETY: slots, tokens and sizes were checked, slots are different ones, and what was
        // uploaded is overwritten or freed in stream order.
        unsafe { cuda.queue().launch(&cuda.device, &launch) }?;
        for &slot in slots {
            self.n_read[slot] = 0;
            self.memory.published.set(slot, 0);
        }
        Ok(())
    }

    /// Replaces the mask of a sequence that began with one.
    ///
    /// # Errors
    /// [`Error::Shape`] for a mask that is too short or a slot that does not exist.
    pub fn set_mask(&mut self, cuda: &Cuda, slot: usize, allowed: &[u32]) -> Result<()> {
        self.check_slots([slot])?;
        let n_words = self.shape.n_words();
        let Some(words) = allowed.get(..n_words) else {
            let given = allowed.len();
            return Err(shape_error(
                OP,
                format!("the mask has {given} words, but the vocabulary needs {n_words}"),
            ));
        };
        self.memory
            .masks
            .write_at(&cuda.device, slot * n_words, words)
    }

    /// Which slot each of the first rows of the next steps belongs to; none, and all further
    /// rows: idle.
    ///
    /// # Errors
    /// [`Error::Shape`] for too many rows, or a slot that does not exist or has two rows.
    pub fn set_rows(&mut self, cuda: &Cuda, rows: &[Option<usize>]) -> Result<()> {
        self.check_slots(rows.iter().copied().flatten())?;
        self.check_rows(rows.len())?;
        let mut slots = vec![SAMPLE_IDLE; self.shape.n_rows];
        for (row, &slot) in slots.iter_mut().zip(rows) {
            if let Some(slot) = slot {
                *row = narrow(OP, slot)?;
            }
        }
        self.memory.row_slots.write(&cuda.device, &slots)
    }

    /// Draws the next token of each sequence that has one of the first `n_rows` rows, unless it is
    /// finished. `logits` is `[n_rows, vocab]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for too many rows or too few logits, or what the driver says. A row that
    /// cannot be drawn has its error among the outputs, and its sequence is finished.
    pub fn step(&mut self, cuda: &Cuda, logits: &Buffer, n_rows: usize) -> Result<()> {
        let next = NextInputs {
            tokens: self.memory.tokens.pointer(),
            positions: std::ptr::null_mut(),
            spans: std::ptr::null_mut(),
        };
        let row_slots = self.memory.row_slots.pointer();
        // SAFETY: the state has as many tokens and slots of rows as rows.
        unsafe { self.step_of(cuda, logits, n_rows, row_slots, next) }
    }

    /// As [`step`](Self::step), with the slots of the rows from `row_slots`, in device memory,
    /// and the next pass's inputs written to `next`.
    ///
    /// # Errors
    /// As `step`.
    ///
    /// # Safety
    /// The arrays have an element for each of the `n_rows` rows and live until the stream has
    /// come past the step; the slots are ones of this state or `SAMPLE_IDLE`, each but once.
    pub(crate) unsafe fn step_of(
        &mut self,
        cuda: &Cuda,
        logits: &Buffer,
        n_rows: usize,
        row_slots: *const u32,
        next: NextInputs,
    ) -> Result<()> {
        self.check_rows(n_rows)?;
        check_room(OP, "logits", logits, &[n_rows, self.shape.vocab])?;
        let mut queue = cuda.queue();
        for kernel in PASSES {
            let launch = Launch {
                module: "sample",
                kernel,
                grid: (self.memory.arrays.n_tiles, narrow(OP, n_rows)?, 1),
                threads: SAMPLE_THREADS,
                shared_bytes: SAMPLE_SHARED_BYTES,
                params: SampleParams {
                    arrays: self.memory.arrays,
                    logits: logits.0.pointer(),
                    row_slots,
                    tokens: next.tokens,
                    positions: next.positions,
                    spans: next.spans,
                },
            };
            // SAFETY: there are as many logits as the grid covers, the rows are as the contract
            // says, and the state's arrays have the shape that it holds.
            unsafe { queue.launch(&cuda.device, &launch) }?;
        }
        Ok(())
    }

    /// The token that each of the first `n_rows` rows drew last, where one was.
    ///
    /// # Errors
    /// [`Error::Shape`] for too many rows, or what the driver says.
    pub fn last_tokens(&self, cuda: &Cuda, n_rows: usize) -> Result<Vec<u32>> {
        self.check_rows(n_rows)?;
        let mut tokens = vec![0; n_rows];
        self.memory.tokens.read(&cuda.device, 0, &mut tokens)?;
        Ok(tokens)
    }

    /// What each of `slots` drew since it was last read. Waits for the steps behind.
    ///
    /// # Errors
    /// [`Error::Shape`] for a slot that does not exist, [`Error::Device`] where a sequence drew
    /// more than its ring holds, or what the driver says.
    pub fn read(&mut self, cuda: &Cuda, slots: &[usize]) -> Result<Vec<Vec<Result<Sampled>>>> {
        self.check_slots(slots.iter().copied())?;
        cuda.device.synchronise()?;
        let mut all = Vec::with_capacity(slots.len());
        for &slot in slots {
            let mut drawn = Vec::new();
            while let Some(sampled) = self.next(slot)? {
                drawn.push(sampled);
            }
            all.push(drawn);
        }
        Ok(all)
    }

    /// The next token of `slot` that was not read yet, if it is there already. Waits for nothing.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for the driver.
    pub fn next(&mut self, slot: usize) -> Result<Option<Result<Sampled>>> {
        self.check_slots([slot])?;
        let (ring, n_top) = (self.shape.ring, self.shape.n_top);
        let (first, end) = (self.n_read[slot], self.memory.published.acquire(slot));
        if (end - first) as usize > ring {
            return Err(Error::Device {
                device: "cuda".to_owned(),
                detail: format!("{OP}: {} tokens overran a ring of {ring}", end - first),
            });
        }
        if first == end {
            return Ok(None);
        }
        self.n_read[slot] = first + 1;
        let entry = slot * ring + first as usize % ring;
        let output = self.memory.outputs.get(entry);
        let top: Vec<_> = (0..output.n_top as usize)
            .map(|i| self.memory.tops.get(entry * n_top + i))
            .collect();
        Ok(Some(sampled(&output, &top, self.shape.vocab)))
    }

    /// The slots, in device memory.
    pub(crate) fn slots(&self) -> *const SampleSlot {
        self.memory.arrays.slots
    }

    /// Waits for the steps under way.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn synchronise(&self) -> Result<()> {
        self.memory.synchronise()
    }

    fn check_rows(&self, n_rows: usize) -> Result<()> {
        let most = self.shape.n_rows;
        match n_rows <= most {
            true => Ok(()),
            false => Err(shape_error(
                OP,
                format!("{n_rows} rows are more than {most}"),
            )),
        }
    }

    /// That slots exist and are different ones.
    pub(crate) fn check_slots(&self, slots: impl IntoIterator<Item = usize>) -> Result<()> {
        let mut is_named = vec![false; self.shape.n_slots];
        for slot in slots {
            match is_named.get_mut(slot) {
                Some(named) if !*named => *named = true,
                Some(_) => return Err(shape_error(OP, format!("slot {slot} is named twice"))),
                None => {
                    let most = is_named.len();
                    return Err(shape_error(
                        OP,
                        format!("there is no slot {slot} of {most}"),
                    ));
                }
            }
        }
        Ok(())
    }
}
