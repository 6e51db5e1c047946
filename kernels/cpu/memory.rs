//! Arrays in main memory: page-aligned, zeroed, and touched only when used.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use memmap2::MmapMut;

use crate::backend::Array;
use crate::error::{Error, Result};

use super::simd::Line;

/// Arrays from this size on ask for huge pages: a single thread reads them half as fast again.
const HUGE_FROM: usize = 4 << 20;

/// Zeroed bytes, aligned to a memory page. The system provides each page at its first use, so
/// an array that is mostly unused costs next to nothing.
pub struct Bytes {
    map: MmapMut,
    len: usize,
}

impl Bytes {
    /// `len` zeroed bytes; `what` names them in the error.
    pub fn zeroed(len: usize, what: &'static str) -> Result<Bytes> {
        let map =
            MmapMut::map_anon(len.max(1)).map_err(|_| Error::OutOfMemory { what, bytes: len })?;
        #[cfg(target_os = "linux")]
        if len >= HUGE_FROM {
            // Advice only: a kernel without huge pages refuses it and all still works.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Bytes { map, len })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}

/// An array of `f32`, aligned to a cache line or better.
pub struct Buffer {
    bytes: Bytes,
}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system has no address space for them.
    pub fn zeroed(len: usize) -> Result<Buffer> {
        const WHAT: &str = "an activation buffer";
        let bytes = len
            .checked_mul(size_of::<f32>())
            .ok_or(Error::OutOfMemory {
                what: WHAT,
                bytes: usize::MAX,
            })?;
        Ok(Buffer {
            bytes: Bytes::zeroed(bytes, WHAT)?,
        })
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// As [`Buffer::zeroed`].
    pub fn from_slice(values: &[f32]) -> Result<Buffer> {
        let mut buffer = Buffer::zeroed(values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.bytes)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.bytes)
    }
}

impl Array for Buffer {
    fn len(&self) -> usize {
        <[f32]>::len(self)
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `n_lines` lines of this thread's scratch memory, holding anything, to `work`. A call
/// from within `work` gets others.
pub(crate) fn with_scratch<R>(n_lines: usize, work: impl FnOnce(&mut [Line]) -> R) -> R {
    let mut lines = SCRATCH
        .with_borrow_mut(|scratch| scratch.pop())
        .unwrap_or_default();
    if lines.len() < n_lines {
        lines.resize(n_lines, Line::ZERO);
    }
    let result = work(&mut lines[..n_lines]);
    SCRATCH.with_borrow_mut(|scratch| scratch.push(lines));
    result
}

/// A slice that several workers write at the same time, each a part of its own.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out parts only under the promise that nobody else has them.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Shared {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// Where one part begins, for kernels that write only some of its values.
    ///
    /// # Panics
    /// If the range is not within the slice.
    #[inline(always)]
    pub(crate) fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len);
        self.start.wrapping_add(range.start)
    }

    /// One part.
    ///
    /// # Safety
    /// While the part is in use, no other part that overlaps it is.
    ///
    /// # Panics
    /// If the range is not within the slice.
    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "the caller promises that parts are disjoint"
    )]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies within the slice, which is borrowed for as long as `self`
        // lives; the caller promises that nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
