//! Where a state's arrays lie in device memory.

use bytemuck::Zeroable;
use cudarc::driver::{DeviceRepr, ValidAsZeroBits};

use super::super::{OP, adjust};
use super::slot::lists_candidates;
use crate::cuda::abi::{
    SAMPLE_BUCKETS, SAMPLE_KEYS, SAMPLE_MAX_TILES, SAMPLE_MAX_TOP, SAMPLE_TILE, SampleArrays,
    SampleBias, SampleOutput, SampleParams, SampleSlot, SampleStart as Record, SampleStartParams,
    SampleTop, SampleWork,
};
use crate::cuda::array::DeviceArray;
use crate::cuda::device::Device;
use crate::cuda::pinned::PinnedArray;
use crate::decode::SampleStart;
use crate::error::Result;
use crate::ops::{narrow, shape_error};

macro_rules! plain_data {
    ($($name:ident),*) => {$(
        // SAFETY: plain data, its layout checked against the kernel's compiler when it was
        // generated.
        unsafe impl DeviceRepr for $name {}
        // SAFETY: numbers and addresses, of which zeros are valid ones.
        unsafe impl ValidAsZeroBits for $name {}
        // SAFETY: as above.
        unsafe impl Zeroable for $name {}
    )*};
}
plain_data!(
    SampleSlot,
    SampleOutput,
    SampleTop,
    SampleParams,
    SampleStartParams,
    Record
);

/// How much a [`SampleState`](super::SampleState) holds.
///
/// A slot takes `4 · vocab` bytes for the counts of the penalties (unless `history` is 0), a
/// quarter of `vocab` for bits, and its history, biases and ring; a row half of `vocab` for the
/// last bits of keys, 32 KiB of histograms, and four bytes for each of `min(top_k, 8192)`
/// candidates in each 8192 tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleShape {
    /// Sequences.
    pub n_slots: usize,
    /// Rows of a step at most.
    pub n_rows: usize,
    /// Tokens of the vocabulary, at most 2^20.
    pub vocab: usize,
    /// Tokens of a sequence that the penalties can look back on; 0: no sequence is penalised.
    pub history: usize,
    /// Biases of a sequence.
    pub n_biases: usize,
    /// Tokens of a sequence that can be drawn before the host reads them.
    pub ring: usize,
    /// Most probable tokens to report, at most 256.
    pub n_top: usize,
    /// The greatest top-k that is combined with top-p.
    pub top_k: usize,
}

impl SampleShape {
    /// What holds `starts`, one token each.
    pub(super) fn of(starts: &[SampleStart<'_>], vocab: usize) -> Self {
        let most = |size: &dyn Fn(&SampleStart<'_>) -> usize| {
            let sizes = starts.iter().map(size);
            // Rounded up, so that few calls need a new state.
            sizes
                .max()
                .filter(|&n| n > 0)
                .map_or(0, usize::next_power_of_two)
        };
        Self {
            n_slots: starts.len().next_power_of_two(),
            n_rows: starts.len().next_power_of_two(),
            vocab,
            history: most(&|s| match s.row.params.penalises() {
                true => adjust::window(s.row.params, s.row.history).len().max(1),
                false => 0,
            }),
            n_biases: most(&|s| s.row.params.logit_bias.len()),
            ring: 1,
            n_top: most(&|s| s.n_top),
            top_k: most(&|s| match lists_candidates(s.row.params, vocab) {
                true => s.row.params.top_k,
                false => 0,
            }),
        }
    }

    /// Whether a state of this shape has room for one of `other`.
    pub(super) fn holds(&self, other: &Self) -> bool {
        self.vocab == other.vocab
            && self.n_slots >= other.n_slots
            && self.n_rows >= other.n_rows
            && self.history >= other.history
            && self.n_biases >= other.n_biases
            && self.ring >= other.ring
            && self.n_top >= other.n_top
            && self.top_k >= other.top_k
    }

    /// Bytes of device memory that a state of this shape takes.
    pub(crate) fn bytes(&self) -> usize {
        let others = carve(std::ptr::null_mut(), self).map_or(usize::MAX, |(_, bytes)| bytes);
        let slot = size_of::<SampleSlot>() + size_of::<u32>() * self.n_words();
        let row = 2 * size_of::<u32>();
        let start = size_of::<Record>() + size_of::<u32>() * self.start_words();
        others
            .saturating_add(start)
            .saturating_add(self.n_slots.saturating_mul(slot))
            .saturating_add(self.n_rows.saturating_mul(row))
    }

    /// Words that begin a sequence at most: its history, its biases and its mask.
    fn start_words(&self) -> usize {
        let biases = self.n_biases.saturating_mul(2);
        (self.history.saturating_add(biases)).saturating_add(self.n_words())
    }

    /// Tiles of a row.
    pub(super) fn n_tiles(&self) -> usize {
        self.vocab.div_ceil(SAMPLE_TILE as usize)
    }

    /// Words of a bit for each token.
    pub(super) fn n_words(&self) -> usize {
        self.vocab.div_ceil(32)
    }

    fn check(&self) -> Result<()> {
        let most = (SAMPLE_MAX_TILES * SAMPLE_TILE) as usize;
        if self.vocab == 0 || self.vocab > most {
            let vocab = self.vocab;
            return Err(shape_error(
                OP,
                format!("a vocabulary of {vocab} tokens is not one of 1 to {most}"),
            ));
        }
        if self.n_top > SAMPLE_MAX_TOP as usize {
            let n_top = self.n_top;
            return Err(shape_error(
                OP,
                format!("the {n_top} most probable tokens are more than {SAMPLE_MAX_TOP}"),
            ));
        }
        if self.n_rows > usize::from(u16::MAX) {
            let n_rows = self.n_rows;
            return Err(shape_error(
                OP,
                format!("{n_rows} rows are too many for one step"),
            ));
        }
        Ok(())
    }
}

/// The arrays of a state.
#[derive(Debug)]
pub(super) struct Memory {
    _slots: DeviceArray<SampleSlot>,
    pub(super) masks: DeviceArray<u32>,
    pub(super) outputs: PinnedArray<SampleOutput>,
    pub(super) tops: PinnedArray<SampleTop>,
    pub(super) published: PinnedArray<u32>,
    pub(super) row_slots: DeviceArray<u32>,
    pub(super) tokens: DeviceArray<u32>,
    /// What begins sequences: room for one, or for as many as once began together.
    pub(super) records: DeviceArray<Record>,
    pub(super) words: DeviceArray<u32>,
    /// What only kernels use.
    _others: DeviceArray<u8>,
    pub(super) arrays: SampleArrays,
}

impl Memory {
    /// Zeroed arrays of this shape.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for a shape beyond what kernels count,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where there is no room.
    pub(super) fn new(device: &Device, shape: &SampleShape) -> Result<Self> {
        const WHAT: &str = "the state of sampling";
        shape.check()?;
        let of_slots = |each: usize| shape.n_slots.saturating_mul(each);
        let ring = of_slots(shape.ring);
        let slots = DeviceArray::zeroed(device, WHAT, shape.n_slots)?;
        let masks = DeviceArray::zeroed(device, WHAT, of_slots(shape.n_words()))?;
        let outputs = PinnedArray::zeroed(device, WHAT, ring)?;
        let tops = PinnedArray::zeroed(device, WHAT, ring.saturating_mul(shape.n_top))?;
        let published = PinnedArray::zeroed(device, WHAT, shape.n_slots)?;
        let (_, n_bytes) = carve(std::ptr::null_mut(), shape)?;
        let others = DeviceArray::<u8>::zeroed(device, WHAT, n_bytes)?;
        let (arrays, _) = carve(others.pointer(), shape)?;
        Ok(Self {
            arrays: SampleArrays {
                slots: slots.pointer(),
                masks: masks.pointer(),
                outputs: outputs.pointer(),
                tops: tops.pointer(),
                published: published.pointer(),
                ..arrays
            },
            _slots: slots,
            masks,
            outputs,
            tops,
            published,
            row_slots: DeviceArray::zeroed(device, WHAT, shape.n_rows)?,
            tokens: DeviceArray::zeroed(device, WHAT, shape.n_rows)?,
            records: DeviceArray::zeroed(device, WHAT, 1)?,
            words: DeviceArray::zeroed(device, WHAT, shape.start_words())?,
            _others: others,
        })
    }
}

impl Memory {
    /// Waits for work under way.
    pub(super) fn synchronise(&self) -> Result<()> {
        self.published.synchronise()
    }
}

/// The arrays that only kernels use, one behind the other from `base` on, and their bytes.
fn carve(base: *mut u8, shape: &SampleShape) -> Result<(SampleArrays, usize)> {
    /// A cache line and a 128-bit access begin at multiples of this.
    const ALIGN: usize = 256;
    struct Carver {
        base: *mut u8,
        used: usize,
    }
    impl Carver {
        /// An array of the product of `dims`.
        fn take<T>(&mut self, dims: &[usize]) -> *mut T {
            let bytes = dims
                .iter()
                .fold(size_of::<T>(), |n, &dim| n.saturating_mul(dim));
            let start = self.base.wrapping_add(self.used);
            let padded = bytes.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
            self.used = self.used.saturating_add(padded);
            start.cast()
        }
    }
    let mut carver = Carver { base, used: 0 };
    let (n_slots, n_rows, n_tiles) = (shape.n_slots, shape.n_rows, shape.n_tiles());
    let counts = if shape.history > 0 { shape.vocab } else { 0 };
    let (buckets, keys) = (SAMPLE_BUCKETS as usize, SAMPLE_KEYS as usize);
    let list_length = shape.top_k.clamp(1, SAMPLE_TILE as usize);
    let arrays = SampleArrays {
        slots: std::ptr::null_mut(),
        masks: std::ptr::null_mut(),
        outputs: std::ptr::null_mut(),
        tops: std::ptr::null_mut(),
        published: std::ptr::null_mut(),
        history: carver.take::<u32>(&[n_slots, shape.history]),
        counts: carver.take::<u32>(&[n_slots, counts]),
        touched: carver.take::<u32>(&[n_slots, shape.n_words()]),
        biases: carver.take::<SampleBias>(&[n_slots, shape.n_biases]),
        work: carver.take::<SampleWork>(&[n_rows]),
        counts_by_bucket: carver.take::<u32>(&[n_rows, buckets]),
        tops_by_bucket: carver.take::<u32>(&[n_rows, buckets]),
        masses: carver.take::<u64>(&[n_rows, buckets]),
        tile_mass: carver.take::<u64>(&[n_rows, n_tiles]),
        tile_ties: carver.take::<u32>(&[n_rows, n_tiles]),
        tile_listed: carver.take::<u32>(&[n_rows, n_tiles]),
        tile_list: carver.take::<u32>(&[n_rows, n_tiles, list_length]),
        tile_keys: carver.take::<u32>(&[n_rows, n_tiles, keys]),
        tile_top_ties: carver.take::<u32>(&[n_rows, n_tiles]),
        tile_top_tokens: carver.take::<u32>(&[n_rows, n_tiles, shape.n_top]),
        top_list: carver.take::<SampleTop>(&[n_rows, shape.n_top]),
        vocab: narrow(OP, shape.vocab)?,
        n_words: narrow(OP, shape.n_words())?,
        n_tiles: narrow(OP, n_tiles)?,
        history_length: narrow(OP, shape.history)?,
        n_biases: narrow(OP, shape.n_biases)?,
        ring_length: narrow(OP, shape.ring)?,
        n_top: narrow(OP, shape.n_top)?,
        list_length: narrow(OP, list_length)?,
    };
    Ok((arrays, carver.used))
}
