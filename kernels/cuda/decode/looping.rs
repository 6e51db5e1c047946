//! Steps that the device repeats by itself: a graph with a step in a loop, which kernels of
//! `device/decode_loop` begin and end.

use bytemuck::Zeroable;
use cudarc::driver::{DeviceRepr, ValidAsZeroBits, sys};

use crate::cuda::abi::{DECODE_LOOP_THREADS, DecodeLoop, DecodeLoopParams, SampleSlot};
use crate::cuda::array::{DeviceArray, failed};
use crate::cuda::graph::{Condition, Graph};
use crate::cuda::pinned::PinnedArray;
use crate::cuda::queue::Launch;
use crate::cuda::{Cuda, CudaError};
use crate::error::Result;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for DecodeLoop {}
// SAFETY: numbers, of which zeros are valid ones.
unsafe impl ValidAsZeroBits for DecodeLoop {}
// SAFETY: as above.
unsafe impl Zeroable for DecodeLoop {}
// SAFETY: plain data, as above.
unsafe impl DeviceRepr for DecodeLoopParams {}

const MODULE: &str = "decode_loop";
const ENTER: &str = "decode_loop_enter";
const NEXT: &str = "decode_loop_next";
const WHAT: &str = "the state of decoding";
/// Of the pinned words: runs in which no further step begins, which the host writes.
const N_HALTED: usize = 0;
/// Of the pinned words: steps that are done, which the device writes.
const N_STEPS: usize = 1;

/// What a loop and the host tell each other.
#[derive(Debug)]
pub(crate) struct Looping {
    state: DeviceArray<DecodeLoop>,
    words: PinnedArray<u32>,
    /// Runs that were put on the stream; the device counts them as they begin.
    n_runs: u32,
}

/// The rows of a loop's steps, in device memory.
#[derive(Clone, Copy)]
pub(crate) struct LoopRows {
    pub(crate) slots: *const SampleSlot,
    pub(crate) row_slots: *const u32,
    pub(crate) n_rows: u32,
}

impl Looping {
    /// A loop that has not run.
    ///
    /// # Errors
    /// No memory, or what the driver says.
    pub(crate) fn new(cuda: &Cuda) -> Result<Self> {
        Ok(Self {
            state: DeviceArray::zeroed(&cuda.device, WHAT, 1)?,
            words: PinnedArray::zeroed(&cuda.device, WHAT, 2)?,
            n_runs: 0,
        })
    }

    /// Bytes of device memory.
    pub(crate) fn bytes() -> usize {
        size_of::<DecodeLoop>()
    }

    /// What a loop over these rows is recorded with.
    pub(crate) fn params(&self, rows: LoopRows) -> DecodeLoopParams {
        DecodeLoopParams {
            // The graph's, which is not there yet.
            condition: 0,
            state: self.state.pointer(),
            n_halted: self.words.pointer().wrapping_add(N_HALTED),
            n_steps: self.words.pointer().wrapping_add(N_STEPS),
            slots: rows.slots,
            row_slots: rows.row_slots,
            n_rows: rows.n_rows,
            unused: 0,
        }
    }

    /// Puts a run of up to `n` steps on the stream. It has fewer where all rows' sequences end,
    /// or where it is halted.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn run(&mut self, cuda: &Cuda, graph: &mut Graph, n: u32) -> Result<()> {
        cuda.device.bind()?;
        // Behind the run before, and without waiting for it: the value is in the command.
        // SAFETY: the first word of the state, which outlives its work.
        unsafe {
            let n_left = &raw const (*self.state.pointer()).n_left;
            let stream = cuda.device.stream().cu_stream();
            sys::cuMemsetD32Async(n_left as sys::CUdeviceptr, n, 1, stream)
        }
        .result()
        .map_err(|error| failed("say how many steps are to run", error))?;
        graph.launch()?;
        self.n_runs = self.n_runs.wrapping_add(1);
        Ok(())
    }

    /// Has no further step begin in the runs that were put on the stream.
    pub(crate) fn halt(&mut self) {
        self.words.set(N_HALTED, self.n_runs);
    }

    /// Steps that are done.
    pub(crate) fn n_steps(&self) -> u32 {
        self.words.acquire(N_STEPS)
    }
}

/// Records a loop of `step`.
///
/// # Errors
/// Those of `step`, no image of the loop's kernels for this GPU, or what the driver says, also
/// where it has no loops.
///
/// # Safety
/// What the parameters name lives as long as the graph, and the rows are as they say.
pub(crate) unsafe fn record(
    cuda: &Cuda,
    params: DecodeLoopParams,
    step: impl FnOnce() -> Result<()>,
) -> Result<Graph> {
    for kernel in [ENTER, NEXT] {
        // Nothing can be loaded while a step is recorded.
        cuda.queue().prepare(&cuda.device, MODULE, kernel)?;
    }
    let put = |kernel: &'static str, condition: Condition| {
        let launch = Launch {
            module: MODULE,
            kernel,
            grid: (1, 1, 1),
            threads: DECODE_LOOP_THREADS,
            shared_bytes: 0,
            params: DecodeLoopParams {
                condition,
                ..params
            },
        };
        // SAFETY: by the contract; the condition is the graph's that the launch is recorded into.
        unsafe { cuda.queue().launch(&cuda.device, &launch) }
    };
    let round = |condition| {
        step()?;
        put(NEXT, condition)
    };
    Graph::record_loop(&cuda.device, |condition| put(ENTER, condition), round)
}

impl Cuda {
    /// Records a loop of steps of no consequence and runs it twice: whether the GPU and its driver
    /// repeat steps by themselves, as often as they are told.
    ///
    /// # Errors
    /// What the driver says, or that the steps were not repeated.
    pub fn check_loop(&self) -> Result<()> {
        const N: u32 = 3;
        let endless = SampleSlot {
            is_live: 1,
            ..SampleSlot::zeroed()
        };
        let slots = DeviceArray::upload(&self.device, "a slot", &[endless])?;
        let row_slots = DeviceArray::upload(&self.device, "a row", &[0_u32])?;
        let mut looping = Looping::new(self)?;
        let params = looping.params(LoopRows {
            slots: slots.pointer(),
            row_slots: row_slots.pointer(),
            n_rows: 1,
        });
        // SAFETY: slot, row and state live until the stream was waited for.
        let mut graph = unsafe { record(self, params, || Ok(())) }?;
        for run in 1..=2 {
            looping.run(self, &mut graph, N)?;
            self.device.synchronise()?;
            let n_steps = looping.n_steps();
            if n_steps != run * N {
                let what = "repeat a step on the GPU".to_owned();
                let detail = format!("it ran {n_steps} times instead of {}", run * N);
                return Err(CudaError::Call { what, detail }.into());
            }
        }
        Ok(())
    }
}
