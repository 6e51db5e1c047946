//! The paged KV cache in half precision.
//!
//! A page holds [`PAGE_TOKENS`] positions of every layer and head. In it, for each head, with
//! lines of 16 halves:
//!
//! ```text
//! keys    [PAGE_TOKENS / 16][head_dim] lines     a line: one element of 16 positions
//! values  [⌈head_dim / 16⌉][PAGE_TOKENS] lines   a line: 16 elements of one position
//! ```
//!
//! So the scores of 16 positions come from multiplying lines by broadcast query elements, and
//! the output from multiplying lines by broadcast weights: no sum across lanes in either, and
//! both read on from line to line. What is stored is clamped to the finite range of a half.

use half::f16;

use crate::backend::{CacheShape, KvShape, PAGE_TOKENS};
use crate::error::{Error, Result};

use super::memory::{Bytes, Shared};
use super::simd::{HalfLine, LANES, Simd};

/// Tiles of keys in a page.
pub(crate) const KEY_TILES: usize = PAGE_TOKENS / LANES;

/// Where one layer lies in every page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPlace {
    /// The first line of the layer in a page.
    offset: usize,
    /// Elements a head.
    pub(crate) head_dim: usize,
}

impl LayerPlace {
    /// Lines of a head's keys in a page.
    pub(crate) fn key_lines(self) -> usize {
        KEY_TILES * self.head_dim
    }

    /// Lines of one position's value, [`PAGE_TOKENS`] apart.
    pub(crate) fn value_width(self) -> usize {
        self.head_dim.div_ceil(LANES)
    }

    /// Lines of a head's keys and values in a page.
    fn head_lines(self) -> usize {
        self.key_lines() + PAGE_TOKENS * self.value_width()
    }
}

/// The pages of keys and values of all layers.
pub struct KvCache {
    shape: KvShape,
    layers: Vec<LayerPlace>,
    page_lines: usize,
    memory: Bytes,
}

/// The places of the layers in a page and the page's lines, unless they are too many to count.
fn layout(shape: &KvShape) -> Option<(Vec<LayerPlace>, usize)> {
    let mut layers = Vec::with_capacity(shape.layers.len());
    let mut offset = 0_usize;
    for &(n_kv_heads, head_dim) in &shape.layers {
        // A head of this many elements is no head, and lines of smaller ones cannot overflow.
        if head_dim > 1 << 24 {
            return None;
        }
        let place = LayerPlace { offset, head_dim };
        offset = offset.checked_add(n_kv_heads.checked_mul(place.head_lines())?)?;
        layers.push(place);
    }
    // Whole cache lines, so that keys of no page begin within one.
    Some((layers, offset.checked_next_multiple_of(2)?))
}

/// Bytes of a cache of this shape; `None` if there are more than memory can have.
pub(crate) fn bytes(shape: &KvShape) -> Option<usize> {
    let (_, page_lines) = layout(shape)?;
    page_lines
        .checked_mul(size_of::<HalfLine>())?
        .checked_mul(shape.n_pages)
}

impl KvCache {
    /// An empty cache. Memory is used as pages are written to.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system has no address space for it.
    pub fn new(shape: &KvShape) -> Result<KvCache> {
        const WHAT: &str = "the KV cache";
        let too_large = || Error::OutOfMemory {
            what: WHAT,
            bytes: usize::MAX,
        };
        let (layers, page_lines) = layout(shape).ok_or_else(too_large)?;
        let len = bytes(shape).ok_or_else(too_large)?;
        Ok(KvCache {
            shape: shape.clone(),
            layers,
            page_lines,
            memory: Bytes::zeroed(len, WHAT)?,
        })
    }

    pub(crate) fn place(&self, layer: usize) -> LayerPlace {
        self.layers[layer]
    }

    /// Keys and values of one head in one page.
    pub(crate) fn head(&self, layer: usize, page: u32, head: usize) -> (&[HalfLine], &[HalfLine]) {
        let place = self.layers[layer];
        let start = page as usize * self.page_lines + place.offset + head * place.head_lines();
        let lines: &[HalfLine] = bytemuck::cast_slice(&self.memory);
        lines[start..start + place.head_lines()].split_at(place.key_lines())
    }

    /// Copies a page of all layers.
    pub(crate) fn copy_page(&mut self, from: u32, to: u32) {
        let page_bytes = self.page_lines * size_of::<HalfLine>();
        let start = from as usize * page_bytes;
        (self.memory).copy_within(start..start + page_bytes, to as usize * page_bytes);
    }

    /// Sets everything to `value`.
    #[cfg(test)]
    pub(crate) fn fill(&mut self, value: f16) {
        bytemuck::cast_slice_mut(&mut self.memory).fill(value);
    }

    /// Access for several workers that store positions of one layer at the same time.
    pub(crate) fn writer(&mut self, layer: usize) -> Writer<'_> {
        Writer {
            place: self.layers[layer],
            page_lines: self.page_lines,
            halves: Shared::new(bytemuck::cast_slice_mut(&mut self.memory)),
        }
    }
}

impl CacheShape for KvCache {
    fn shape(&self) -> &KvShape {
        &self.shape
    }
}

/// Stores keys and values of one layer.
pub(crate) struct Writer<'a> {
    place: LayerPlace,
    page_lines: usize,
    halves: Shared<'a, f16>,
}

impl Writer<'_> {
    /// Stores one head's key and value, `head_dim` long, in `slot` of `page`.
    ///
    /// # Safety
    /// No other worker stores to the same page, slot and head.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(
        &self,
        s: S,
        (page, slot, head): (u32, usize, usize),
        key: &[f32],
        value: &[f32],
    ) {
        let place = self.place;
        let line = page as usize * self.page_lines + place.offset + head * place.head_lines();
        let mut halves = [f16::ZERO; LANES];

        let mut at = (line + slot / LANES * place.head_dim) * LANES + slot % LANES;
        for elements in key.chunks(LANES) {
            s.store_half(s.load_chunk(elements), &mut halves);
            for &half in &halves[..elements.len()] {
                // SAFETY: the element belongs to this slot and head alone.
                unsafe { self.halves.part(at..at + 1)[0] = half };
                at += LANES;
            }
        }

        let mut at = (line + place.key_lines() + slot) * LANES;
        for elements in value.chunks(LANES) {
            s.store_half(s.load_chunk(elements), &mut halves);
            // SAFETY: the line belongs to this slot and head alone.
            unsafe { self.halves.part(at..at + LANES) }.copy_from_slice(&halves);
            at += PAGE_TOKENS * LANES;
        }
    }
}
