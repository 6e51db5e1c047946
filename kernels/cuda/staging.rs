//! The way of weights onto the device: two pinned buffers that take turns, so that the host fills
//! one while the other is copied.

use cudarc::driver::{CudaEvent, PinnedHostSlice, result, sys};
use rayon::prelude::*;

use super::abi::MATMUL_TILE_ROWS;
use super::array::{DeviceArray, failed};
use super::device::Device;
use super::driver;
use crate::error::{Error, Result};

/// Bytes that a thread copies at a time.
const SHARE_BYTES: usize = 1 << 20;

/// Bytes of a buffer.
const CHUNK_BYTES: usize = 8 << 20;

/// Bytes of a buffer for rows of `row_bytes`, which go over in whole tiles.
pub(super) fn chunk_bytes(row_bytes: usize) -> usize {
    row_bytes
        .saturating_mul(MATMUL_TILE_ROWS as usize)
        .max(CHUNK_BYTES)
}

/// Two buffers and their images on the device.
#[derive(Debug)]
pub(crate) struct Staging {
    buffers: [Buffer; 2],
    next: usize,
}

#[derive(Debug)]
struct Buffer {
    host: PinnedHostSlice<u8>,
    device: DeviceArray<u8>,
    /// When what was last sent has been copied.
    copied: Option<CudaEvent>,
}

impl Staging {
    /// The staging in `place`, made anew where there is none with chunks for rows of `row_bytes`.
    ///
    /// # Errors
    /// No memory, or what the driver says.
    pub(crate) fn at_least<'a>(
        place: &'a mut Option<Self>,
        device: &Device,
        row_bytes: usize,
    ) -> Result<&'a mut Self> {
        let bytes = chunk_bytes(row_bytes);
        let staging = match place.take() {
            Some(staging) if staging.chunk_bytes() >= bytes => staging,
            smaller => {
                drop(smaller);
                Self {
                    buffers: [Buffer::new(device, bytes)?, Buffer::new(device, bytes)?],
                    next: 0,
                }
            }
        };
        Ok(place.insert(staging))
    }

    /// The most bytes that can be sent at once.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.buffers[0].device.len()
    }

    /// Sends `bytes`, at most a chunk, to the device. They stay where the pointer says for the
    /// work that is put on the stream before the next but one chunk is sent.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn send(&mut self, device: &Device, bytes: &[u8]) -> Result<*const u8> {
        let buffer = &mut self.buffers[self.next];
        self.next = 1 - self.next;
        buffer.send(device, bytes)
    }
}

impl Buffer {
    fn new(device: &Device, bytes: usize) -> Result<Self> {
        // SAFETY: bytes are written before they are sent.
        let host = unsafe { device.stream().context().alloc_pinned::<u8>(bytes) };
        let what = "pinned memory for weights on their way";
        Ok(Self {
            host: host.map_err(|error| match driver::is_out_of_memory(error) {
                true => Error::OutOfMemory { what, bytes },
                false => failed(format!("allocate {bytes} bytes of {what}"), error),
            })?,
            device: DeviceArray::uninitialised(device, "staged weights", bytes)?,
            copied: None,
        })
    }

    fn send(&mut self, device: &Device, bytes: &[u8]) -> Result<*const u8> {
        let mut copy = || -> std::result::Result<CudaEvent, cudarc::driver::DriverError> {
            if let Some(copied) = self.copied.take() {
                copied.synchronize()?;
            }
            let pinned = &mut self.host.as_mut_slice()?[..bytes.len()];
            // By all threads: where the bytes are a file's, each waits for its own pages.
            (pinned.par_chunks_mut(SHARE_BYTES))
                .zip(bytes.par_chunks(SHARE_BYTES))
                .for_each(|(to, from)| to.copy_from_slice(from));
            let stream = device.stream();
            // SAFETY: the buffers are as long, and neither is touched again before the event.
            unsafe {
                result::memcpy_htod_async(
                    self.device.pointer() as sys::CUdeviceptr,
                    pinned,
                    stream.cu_stream(),
                )
            }?;
            stream.record_event(None)
        };
        self.copied = Some(copy().map_err(|error| failed("send weights to the GPU", error))?);
        Ok(self.device.pointer())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The host's pages must not go while they are copied from. An error here is the device's
        // last word and will be heard by whoever uses it next.
        for buffer in &mut self.buffers {
            if let Some(copied) = buffer.copied.take() {
                let _ = copied.synchronize();
            }
        }
    }
}
