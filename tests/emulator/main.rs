//! The emulated device itself: it runs the program's own CUDA path, and it finds what it is
//! there to find. Each seeded bug has a twin without the bug, which must pass.

mod counters;
mod faults;
mod sanitised;
mod schedules;

use onward_emulator::{Copies, Emulator, Launch, Memory, Order};

/// The parameters of the kernels in `kernels/emulator/faults`.
#[derive(Clone, Copy)]
#[repr(C)]
struct FaultParams {
    input: *const f32,
    output: *mut f32,
    n: u32,
}

/// Runs `kernel` on `input` with `n_blocks` blocks of `n_threads` threads; what it wrote into
/// `n_out` values, or the report.
fn launch(
    emulator: &Emulator,
    kernel: &str,
    [n_blocks, n_threads, shared_bytes]: [u32; 3],
    input: &[f32],
    n_out: usize,
) -> Result<Vec<f32>, String> {
    let memory: Memory<'_> = emulator.memory(input);
    let output = emulator.memory(&vec![0.0; n_out]);
    let params = FaultParams {
        input: memory.pointer(),
        output: output.pointer(),
        n: input.len() as u32,
    };
    let launch = Launch {
        kernel,
        grid: [n_blocks, 1, 1],
        block: [n_threads, 1, 1],
        shared_bytes,
    };
    // SAFETY: the structure is that of faults.h, and its pointers are the device's.
    unsafe { emulator.launch(&launch, &params) }.map(|()| output.values())
}

/// 0, 1, 2 …
fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

/// The order in which reports are compared.
const PLAIN: (Order, Copies) = (Order::Forward, Copies::Lazy);
