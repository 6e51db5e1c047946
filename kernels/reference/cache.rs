//! Keys and values in f32, in pages.

use super::zeros;
use crate::backend::{CacheShape, KvShape, PAGE_TOKENS, Span};
use crate::error::Result;

/// The pages of all layers.
pub struct KvCache {
    shape: KvShape,
    layers: Vec<Layer>,
}

/// Keys and values of one layer, each `[n_pages, PAGE_TOKENS, n_kv_heads, head_dim]`.
pub(crate) struct Layer {
    n_kv_heads: usize,
    head_dim: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvCache {
    /// An empty cache of the given shape.
    pub(super) fn new(shape: &KvShape) -> Result<Self> {
        let layers = shape
            .layers
            .iter()
            .map(|&(n_kv_heads, head_dim)| {
                let len = layer_len(shape.n_pages, n_kv_heads, head_dim);
                Ok(Layer {
                    n_kv_heads,
                    head_dim,
                    keys: zeros(len, "the KV cache")?,
                    values: zeros(len, "the KV cache")?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            shape: shape.clone(),
            layers,
        })
    }

    /// Bytes of a cache of the given shape.
    pub(super) fn bytes(shape: &KvShape) -> usize {
        let len = |&(n_kv_heads, head_dim)| layer_len(shape.n_pages, n_kv_heads, head_dim);
        let total = shape.layers.iter().map(len).fold(0, usize::saturating_add);
        total.saturating_mul(2 * size_of::<f32>())
    }

    /// Copies a page of all layers.
    pub(super) fn copy_page(&mut self, from: u32, to: u32) {
        for layer in &mut self.layers {
            let len = PAGE_TOKENS * layer.n_kv_heads * layer.head_dim;
            let (start, to) = (from as usize * len, to as usize * len);
            layer.keys.copy_within(start..start + len, to);
            layer.values.copy_within(start..start + len, to);
        }
    }

    /// One layer's keys and values.
    pub(crate) fn layer(&self, layer: usize) -> &Layer {
        &self.layers[layer]
    }

    /// One layer's keys and values, to be written.
    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut Layer {
        &mut self.layers[layer]
    }
}

/// Values of a layer's keys. A product too large for memory becomes a length that no
/// allocation can satisfy.
fn layer_len(n_pages: usize, n_kv_heads: usize, head_dim: usize) -> usize {
    n_pages
        .saturating_mul(PAGE_TOKENS)
        .saturating_mul(n_kv_heads)
        .saturating_mul(head_dim)
}

impl Layer {
    fn start(&self, span: &Span, position: usize, head: usize) -> usize {
        let page = span.block_table[position / PAGE_TOKENS] as usize;
        let slot = page * PAGE_TOKENS + position % PAGE_TOKENS;
        (slot * self.n_kv_heads + head) * self.head_dim
    }

    /// The key of a position and a head.
    pub(crate) fn key(&self, span: &Span, position: usize, head: usize) -> &[f32] {
        &self.keys[self.start(span, position, head)..][..self.head_dim]
    }

    /// The value of a position and a head.
    pub(crate) fn value(&self, span: &Span, position: usize, head: usize) -> &[f32] {
        &self.values[self.start(span, position, head)..][..self.head_dim]
    }

    /// Stores keys and values of all heads of a position, each `n_kv_heads · head_dim` long.
    pub(crate) fn store(&mut self, span: &Span, position: usize, keys: &[f32], values: &[f32]) {
        let start = self.start(span, position, 0);
        self.keys[start..][..keys.len()].copy_from_slice(keys);
        self.values[start..][..values.len()].copy_from_slice(values);
    }
}

impl CacheShape for KvCache {
    fn shape(&self) -> &KvShape {
        &self.shape
    }
}
