//! Memory for weights: large anonymous mappings on huge pages, handed out in slices.
//!
//! A thread reads huge pages half as fast again as small ones, and a file's own pages cannot be
//! huge. One mapping a matrix would round each up to a huge page; carving matrices out of few
//! mappings wastes one page a mapping.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapMut;

use crate::error::{Error, Result};

const HUGE_PAGE: usize = 2 << 20;
/// Address space of a mapping; pages that nothing was written to cost no memory.
const REGION: usize = 256 << 20;
/// Slices begin at multiples of this: a cache line.
const ALIGN: usize = 64;

/// A mapping and its first huge page.
struct Region {
    base: NonNull<u8>,
    len: usize,
    /// Unmaps on drop.
    _map: MmapMut,
}

// SAFETY: the memory is written only through the one exclusive slice that `Arena::fill` makes of
// each part before it is shared, and read only afterwards.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn new(len: usize) -> Option<Region> {
        let len = len.checked_next_multiple_of(HUGE_PAGE)?;
        let mut map = MmapMut::map_anon(len.checked_add(HUGE_PAGE)?).ok()?;
        #[cfg(target_os = "linux")]
        {
            // Advice only: a kernel without huge pages refuses it and all still works.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let skip = map.as_ptr().align_offset(HUGE_PAGE);
        let base = NonNull::from(map.get_mut(skip..skip.checked_add(len)?)?).cast();
        Some(Region {
            base,
            len,
            _map: map,
        })
    }
}

/// Bytes in an arena that no longer change, aligned to a cache line.
pub(crate) struct Slab {
    region: Arc<Region>,
    start: usize,
    len: usize,
}

impl Deref for Slab {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start + len` is inside the region, which lives as long as `self`, and nothing
        // writes to this part once the slab exists.
        unsafe { std::slice::from_raw_parts(self.region.base.as_ptr().add(self.start), self.len) }
    }
}

/// The region being filled and how much of it is taken.
#[derive(Default)]
pub(crate) struct Arena {
    current: Mutex<Option<(Arc<Region>, usize)>>,
}

impl Arena {
    /// A slab of `len` bytes, zero until `write` fills them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system has no address space for them.
    pub(crate) fn fill(&self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<Slab> {
        let error = || Error::OutOfMemory {
            what: "a weight matrix",
            bytes: len,
        };
        let (region, start) = self.take(len).ok_or_else(error)?;
        // SAFETY: `take` gave these bytes, which are inside the region, to this call alone; the
        // region outlives the slice.
        write(unsafe { std::slice::from_raw_parts_mut(region.base.as_ptr().add(start), len) });
        Ok(Slab { region, start, len })
    }

    fn take(&self, len: usize) -> Option<(Arc<Region>, usize)> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = len.checked_next_multiple_of(ALIGN)?;
        if let Some((region, used)) = current.as_mut()
            && needed <= region.len - *used
        {
            let start = *used;
            *used += needed;
            return Some((Arc::clone(region), start));
        }
        let region = Arc::new(Region::new(needed.max(REGION))?);
        *current = Some((Arc::clone(&region), needed));
        Some((region, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_aligned_apart_and_outlive_the_arena() {
        let arena = Arena::default();
        let lens = [1, 64, 1000, REGION, 3 << 20, 0];
        let slabs: Vec<Slab> = (0u8..)
            .zip(lens)
            .map(|(i, len)| {
                let fill = |bytes: &mut [u8]| {
                    assert!(bytes.iter().take(4096).all(|&b| b == 0));
                    bytes.iter_mut().take(4096).for_each(|b| *b = i);
                };
                arena.fill(len, fill).unwrap()
            })
            .collect();
        drop(arena);
        for (i, (slab, len)) in slabs.iter().zip(lens).enumerate() {
            assert_eq!((slab.len(), slab.as_ptr().addr() % ALIGN), (len, 0));
            assert!(slab.iter().take(4096).all(|&b| usize::from(b) == i));
        }
    }

    #[test]
    fn too_much_is_an_error() {
        let arena = Arena::default();
        for len in [usize::MAX, usize::MAX / 4] {
            let refused = matches!(arena.fill(len, |_| ()), Err(Error::OutOfMemory { .. }));
            assert!(refused, "{len}");
        }
    }
}
