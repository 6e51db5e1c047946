//! Launching kernels in order on a device's stream, and what operations share while they do:
//! the kernels that are loaded, scratch memory, and the device's copy of the batch.

use std::collections::HashMap;

use cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as MAX_SHARED;
use cudarc::driver::{CudaFunction, DeviceRepr, LaunchConfig, PushKernelArg};

use super::abi::BatchArrays;
use super::array::{DeviceArray, failed};
use super::batch::DeviceBatch;
use super::device::Device;
use super::shared;
use crate::backend::Batch;
use crate::error::{Error, Result};

/// Dynamic shared memory that a kernel gets without asking.
const SHARED_BYTES: u32 = 48 << 10;

/// One launch of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<P> {
    /// The kernel's source: the stem of its `.cu` file.
    pub(crate) module: &'static str,
    /// The kernel's name in it.
    pub(crate) kernel: &'static str,
    /// Blocks.
    pub(crate) grid: (u32, u32, u32),
    /// Threads of a block.
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block in bytes.
    pub(crate) shared_bytes: u32,
    /// The kernel's one parameter.
    pub(crate) params: P,
}

/// The order in which work reaches the device. An operation holds it while it launches, so
/// nobody else's launches come between its own.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    kernels: HashMap<&'static str, Loaded>,
    scratch: HashMap<&'static str, DeviceArray<u8>>,
    counters: HashMap<&'static str, DeviceArray<u32>>,
    indices: HashMap<&'static str, Indices>,
    batch: DeviceBatch,
    /// What every batch is answered by while a decoder's step is put together.
    held_batch: Option<HeldBatch>,
    /// Goes up when memory that a recorded step may know is replaced.
    generation: u64,
    /// Arrays that never change, and what is in them.
    constants: Vec<(Vec<u32>, DeviceArray<f32>)>,
}

/// The last indices of a name, and room for them.
#[derive(Debug)]
struct Indices {
    values: Vec<u32>,
    array: DeviceArray<u32>,
}

/// Where a decoder's batch lies.
#[derive(Clone, Copy, Debug)]
struct HeldBatch(BatchArrays);

// SAFETY: addresses of device memory, which mean the same to every thread.
unsafe impl Send for HeldBatch {}

/// A kernel on the device and the dynamic shared memory it may use.
#[derive(Debug)]
struct Loaded {
    function: CudaFunction,
    shared_bytes: u32,
}

/// The array of this name with room for `n` values, a fresh one where the held one is too short.
fn at_least<T: DeviceRepr>(
    arrays: &mut HashMap<&'static str, DeviceArray<T>>,
    generation: &mut u64,
    what: &'static str,
    n: usize,
    fresh: impl FnOnce() -> Result<DeviceArray<T>>,
) -> Result<*mut T> {
    if arrays.get(what).map_or(0, DeviceArray::len) < n {
        // Freed in stream order: launches that use it come first.
        arrays.remove(what);
        *generation += 1;
        arrays.insert(what, fresh()?);
    }
    Ok(arrays
        .get(what)
        .map_or(std::ptr::null_mut(), DeviceArray::pointer))
}

impl Queue {
    /// Puts a launch on the device's stream; one of an empty grid does nothing.
    ///
    /// # Errors
    /// No image of the kernel for this GPU, or what the driver says.
    ///
    /// # Safety
    /// The grid, the block and the pointers in the parameters are as the kernel expects, what it
    /// writes overlaps nothing it reads but by its design, and all of it lives until the stream
    /// has come past the launch. Memory that is freed in stream order lives long enough.
    pub(crate) unsafe fn launch<P: DeviceRepr>(
        &mut self,
        device: &Device,
        launch: &Launch<P>,
    ) -> Result<()> {
        let (x, y, z) = launch.grid;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let loaded = self.loaded(device, launch.module, launch.kernel)?;
        if launch.shared_bytes > loaded.shared_bytes {
            return Err(Error::Device {
                device: "cuda".to_owned(),
                detail: format!(
                    "{} was to be launched with {} bytes of shared memory, where its operation \
                     says {} at most",
                    launch.kernel, launch.shared_bytes, loaded.shared_bytes
                ),
            });
        }
        let config = LaunchConfig {
            grid_dim: launch.grid,
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: launch.shared_bytes,
        };
        let mut builder = device.stream().launch_builder(&loaded.function);
        builder.arg(&launch.params);
        // SAFETY: by the contract above.
        unsafe { builder.launch(config) }
            .map_err(|error| failed(format!("launch {}", launch.kernel), error))?;
        Ok(())
    }

    /// Loads a kernel ahead of its first launch.
    ///
    /// # Errors
    /// No image of the kernel for this GPU, or what the driver says.
    pub(crate) fn prepare(
        &mut self,
        device: &Device,
        module: &'static str,
        kernel: &'static str,
    ) -> Result<()> {
        self.loaded(device, module, kernel).map(drop)
    }

    /// The kernel, loaded at its first use and allowed the shared memory that its operation says.
    fn loaded(
        &mut self,
        device: &Device,
        module: &'static str,
        kernel: &'static str,
    ) -> Result<&Loaded> {
        use std::collections::hash_map::Entry;
        let entry = match self.kernels.entry(kernel) {
            Entry::Occupied(entry) => return Ok(entry.into_mut()),
            Entry::Vacant(entry) => entry,
        };
        let function = device.kernel(module, kernel)?;
        let shared_bytes = shared::largest(kernel);
        if shared_bytes > SHARED_BYTES {
            function
                .set_attribute(MAX_SHARED, shared_bytes as i32)
                .map_err(|error| {
                    let what = format!("give {kernel} {shared_bytes} bytes of shared memory");
                    failed(what, error)
                })?;
        }
        Ok(entry.insert(Loaded {
            function,
            shared_bytes,
        }))
    }

    /// At least `bytes` of memory for what `what` names, aligned to 256, its content unknown.
    /// Who asks for the same name again may get the same memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn scratch(
        &mut self,
        device: &Device,
        what: &'static str,
        bytes: usize,
    ) -> Result<*mut u8> {
        let fresh = || DeviceArray::uninitialised(device, what, bytes);
        at_least(&mut self.scratch, &mut self.generation, what, bytes, fresh)
    }

    /// At least `n` counters for what `what` names, which are 0, as kernels leave them behind.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn counters(
        &mut self,
        device: &Device,
        what: &'static str,
        n: usize,
    ) -> Result<*mut u32> {
        let fresh = || DeviceArray::zeroed(device, what, n);
        at_least(&mut self.counters, &mut self.generation, what, n, fresh)
    }

    /// `values` in device memory, copied there if they are not the last ones of this name.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn indices(
        &mut self,
        device: &Device,
        what: &'static str,
        values: &[u32],
    ) -> Result<*const u32> {
        self.reserve_indices(device, what, values.len())?;
        let Some(held) = self.indices.get_mut(what) else {
            return Ok(std::ptr::null());
        };
        if held.values != values {
            held.array.write(device, values)?;
            held.values = values.to_vec();
        }
        Ok(held.array.pointer().cast_const())
    }

    /// Makes room for `len` [`indices`](Self::indices) of a name.
    ///
    /// # Errors
    /// As [`scratch`](Self::scratch).
    pub(crate) fn reserve_indices(
        &mut self,
        device: &Device,
        what: &'static str,
        len: usize,
    ) -> Result<()> {
        let held = self.indices.get(what);
        if held.is_none_or(|held| held.array.len() < len) {
            let array = DeviceArray::uninitialised(device, what, len)?;
            let values = Vec::new();
            self.indices.insert(what, Indices { values, array });
        }
        Ok(())
    }

    /// The batch in device memory, copied there if it is not the last one.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn batch(&mut self, device: &Device, batch: &Batch) -> Result<BatchArrays> {
        match self.held_batch {
            Some(HeldBatch(held)) => Ok(held),
            None => self.batch.update(device, batch),
        }
    }

    /// Makes room for batches of `n_words` words.
    ///
    /// # Errors
    /// As [`scratch`](Self::scratch).
    pub(crate) fn reserve_batch(&mut self, device: &Device, n_words: usize) -> Result<()> {
        self.batch.reserve(device, n_words)
    }

    /// Whether batches are a decoder's.
    pub(crate) fn holds_batch(&self) -> bool {
        self.held_batch.is_some()
    }

    /// Answers every batch by `arrays`, of the same numbers of rows and spans; by what it holds
    /// for none.
    pub(crate) fn hold_batch(&mut self, arrays: Option<BatchArrays>) {
        self.held_batch = arrays.map(HeldBatch);
    }

    /// Which memory launches are given: a launch that is recorded is good for as long as this
    /// stays what it is.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// `values` in device memory, for as long as the queue is: for the few short arrays that a
    /// model hands over with every launch. Null for none.
    ///
    /// # Errors
    /// As [`scratch`](Self::scratch).
    pub(crate) fn constants(&mut self, device: &Device, values: &[f32]) -> Result<*const f32> {
        // As bits: a NaN is not equal to itself.
        let bits = bytemuck::cast_slice::<f32, u32>(values);
        let known = self.constants.iter().find(|(held, _)| held == bits);
        if let Some((_, array)) = known {
            return Ok(array.pointer().cast_const());
        }
        let array = DeviceArray::upload(device, "constants", values)?;
        let pointer = array.pointer().cast_const();
        self.constants.push((bits.to_vec(), array));
        Ok(pointer)
    }
}
