//! The paged cache of keys and values on a GPU. `device/kv.cuh` tells the layout of a page.

use cudarc::driver::{DeviceRepr, result, sys};

use super::Cuda;
use super::abi::{KV_MAX_WIDTH, KvLayer};
use super::array::{DeviceArray, failed};
use super::device::Device;
use crate::backend::{CacheShape, KvRounding, KvShape, PAGE_TOKENS};
use crate::error::{Error, Result};

const WHAT: &str = "the KV cache";

/// Elements of the heads that are stored; narrower ones are filled up with zeros to the next.
const WIDTHS: [usize; 7] = [32, 64, 80, 96, 128, 192, 256];

// SAFETY: plain data, its layout checked against the kernels' compiler when it was generated.
unsafe impl DeviceRepr for KvLayer {}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// In bf16.
    #[default]
    Bf16,
    /// As integers of 8 bits, each head of a token with an `f32` scale for its key and one for
    /// its value.
    Int8,
}

impl KvType {
    /// Bytes of a head of a page: keys, values and their scales.
    fn head_bytes(self, width: usize) -> usize {
        2 * PAGE_TOKENS
            * match self {
                Self::Bf16 => 2 * width,
                Self::Int8 => width + size_of::<f32>(),
            }
    }

    /// What attention over the cache rounds.
    pub(crate) fn rounding(self) -> KvRounding {
        // 8 times a half's 2.1e-4, which has 3 bits more.
        let bf16 = 1.7e-3;
        let stored = match self {
            Self::Bf16 => bf16,
            // 1/√12 of a step, which is 1/127 of the greatest element: of 256 normal ones 2.9
            // deviations, of fewer less.
            Self::Int8 => 2.9 / 127.0 / 12.0_f32.sqrt(),
        };
        KvRounding {
            queries: bf16,
            keys: stored,
            weights: bf16,
            values: stored,
        }
    }
}

/// A layer's place in every page.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The layer's first byte.
    offset: usize,
    /// Elements of a stored head.
    width: usize,
}

/// The pages of keys and values of all layers.
#[derive(Debug)]
pub struct KvCache {
    shape: KvShape,
    element: KvType,
    places: Vec<Place>,
    page_bytes: usize,
    memory: DeviceArray<u8>,
}

/// The places of the layers in a page, and the page's bytes.
fn layout(shape: &KvShape, element: KvType) -> Result<(Vec<Place>, usize)> {
    let mut places = Vec::with_capacity(shape.layers.len());
    let mut offset = 0_usize;
    for &(n_kv_heads, head_dim) in &shape.layers {
        let width = width(head_dim)?;
        places.push(Place { offset, width });
        offset = n_kv_heads
            .checked_mul(element.head_bytes(width))
            .and_then(|bytes| offset.checked_add(bytes))
            .ok_or(too_large())?;
    }
    Ok((places, offset))
}

/// Elements that a head of `head_dim` is stored with.
///
/// # Errors
/// A head without kernels.
pub(super) fn width(head_dim: usize) -> Result<usize> {
    let fitting = WIDTHS.into_iter().find(|&width| width >= head_dim);
    let whole = head_dim > 0 && head_dim.is_multiple_of(8);
    fitting.filter(|_| whole).ok_or_else(|| Error::Shape {
        op: "kv_cache",
        detail: format!(
            "heads of {head_dim} elements have no kernels, only multiples of 8 up to {KV_MAX_WIDTH}"
        ),
    })
}

fn too_large() -> Error {
    Error::OutOfMemory {
        what: WHAT,
        bytes: usize::MAX,
    }
}

/// Bytes of a cache of this shape.
pub(crate) fn bytes(shape: &KvShape, element: KvType) -> Result<usize> {
    let (_, page_bytes) = layout(shape, element)?;
    page_bytes.checked_mul(shape.n_pages).ok_or(too_large())
}

impl KvCache {
    /// A cache of pages that are yet to be written.
    pub(crate) fn new(device: &Device, shape: &KvShape, element: KvType) -> Result<Self> {
        let (places, page_bytes) = layout(shape, element)?;
        // Kernels read no position that was not stored.
        let memory = DeviceArray::uninitialised(device, WHAT, bytes(shape, element)?)?;
        Ok(Self {
            shape: shape.clone(),
            element,
            places,
            page_bytes,
            memory,
        })
    }

    /// Puts a copy of a page of all layers, both of which the cache has, on the stream.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn copy_page(&mut self, device: &Device, from: u32, to: u32) -> Result<()> {
        let page = |page: u32| {
            let start = self
                .memory
                .pointer()
                .wrapping_add(page as usize * self.page_bytes);
            start as sys::CUdeviceptr
        };
        device.bind()?;
        // SAFETY: both pages lie within the cache, which is dropped after the stream's work.
        unsafe {
            let stream = device.stream().cu_stream();
            result::memcpy_dtod_async(page(to), page(from), self.page_bytes, stream)
        }
        .map_err(|error| failed("copy a page of the KV cache", error))
    }

    /// Copies all pages to the host, as `device/kv.cuh` tells of them; what was not stored is of
    /// no meaning.
    ///
    /// # Errors
    /// What the driver says.
    pub fn download(&self, cuda: &Cuda) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.memory.len()];
        self.memory.read(&cuda.device, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// How keys and values are stored.
    pub(crate) fn element(&self) -> KvType {
        self.element
    }

    /// Elements of a stored head of a layer.
    pub(crate) fn width(&self, layer: usize) -> usize {
        self.places[layer].width
    }

    /// A layer as kernels see it.
    pub(crate) fn layer(&self, layer: usize) -> KvLayer {
        let Place { offset, width } = self.places[layer];
        KvLayer {
            pages: self.memory.pointer().wrapping_add(offset),
            page_bytes: self.page_bytes as u64,
            // A head has at most 256 elements.
            head_bytes: self.element.head_bytes(width) as u32,
            head_dim: self.shape.layers[layer].1 as u32,
            width: width as u32,
            eight_bit: (self.element == KvType::Int8).into(),
        }
    }
}

impl CacheShape for KvCache {
    fn shape(&self) -> &KvShape {
        &self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(layers: &[(usize, usize)]) -> KvShape {
        KvShape {
            n_pages: 3,
            layers: layers.to_vec(),
        }
    }

    #[test]
    fn a_cache_has_the_bytes_of_its_rows() {
        let layers = shape(&[(2, 128), (1, 72)]);
        let elements = 3 * 32 * 2 * (2 * 128 + 80);
        assert_eq!(bytes(&layers, KvType::Bf16).unwrap(), 2 * elements);
        let scales = 3 * 32 * 2 * 3 * 4;
        assert_eq!(bytes(&layers, KvType::Int8).unwrap(), elements + scales);
    }

    #[test]
    fn heads_without_kernels_are_refused_by_their_size() {
        for head_dim in [0, 12, 264, usize::MAX - 7] {
            let error = bytes(&shape(&[(1, head_dim)]), KvType::Bf16).unwrap_err();
            assert!(error.to_string().contains(&head_dim.to_string()), "{error}");
        }
        let many = bytes(&shape(&[(usize::MAX / 64, 128)]), KvType::Bf16);
        assert!(matches!(many, Err(Error::OutOfMemory { .. })));
    }
}
