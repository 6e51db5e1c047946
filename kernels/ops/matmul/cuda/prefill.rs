//! Nine tokens and more: activations are packed once for all parts that take them alike.

use cudarc::driver::DeviceRepr;

use super::plan::PACKED;
use crate::cuda::abi::{
    MATMUL_GROUP_TOKENS, MATMUL_STAGES, MATMUL_STEP_COLS, MATMUL_SUPER_BLOCK_STEPS, MATMUL_THREADS,
    MATMUL_WARPS, MatmulInput, MatmulOutput, MatmulPackParams, MatmulPacked, MatmulPrefillParams,
};
use crate::cuda::layout::Tiling;
use crate::cuda::matrix::Part;
use crate::cuda::queue::{Launch, Queue};
use crate::cuda::{Cuda, SharedMemory};
use crate::error::Result;

// SAFETY: plain data, their layouts checked against the kernels' compiler when they were
// generated.
unsafe impl DeviceRepr for MatmulPackParams {}
// SAFETY: likewise.
unsafe impl DeviceRepr for MatmulPrefillParams {}

/// Columns of a block of activations.
const BLOCK_COLS: u32 = 32;

/// Bytes of a group's fragments of a step.
const GROUP_BYTES: u32 = MATMUL_GROUP_TOKENS * MATMUL_STEP_COLS * 2;

/// What is put together when activations are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Groups of neighbouring tokens.
    Groups,
    /// Nothing: a kernel picks its tokens one by one.
    Tokens,
}

/// The activations of a product, packed when a part first asks for them.
pub(crate) struct Activations<'a> {
    input: &'a MatmulInput,
    order: Order,
    f16: Option<MatmulPacked>,
    bf16: Option<MatmulPacked>,
}

impl<'a> Activations<'a> {
    pub(crate) fn new(input: &'a MatmulInput, order: Order) -> Self {
        Self {
            input,
            order,
            f16: None,
            bf16: None,
        }
    }

    /// Where they are, in bf16 or in f16.
    ///
    /// # Safety
    /// The input is as `abi.h` states.
    pub(crate) unsafe fn get(
        &mut self,
        cuda: &Cuda,
        queue: &mut Queue,
        bf16: bool,
    ) -> Result<Packed> {
        let n_tokens = self.input.n_tokens;
        let place = if bf16 { &mut self.bf16 } else { &mut self.f16 };
        let packed = match *place {
            Some(packed) => packed,
            None => {
                // SAFETY: by the contract above.
                *place.insert(unsafe { pack(cuda, queue, self.input, self.order, bf16) }?)
            }
        };
        Ok(Packed { packed, n_tokens })
    }
}

/// Packed activations of a number of tokens.
#[derive(Clone, Copy)]
pub(crate) struct Packed {
    pub(crate) packed: MatmulPacked,
    n_tokens: u32,
}

/// Packs activations into scratch memory.
unsafe fn pack(
    cuda: &Cuda,
    queue: &mut Queue,
    input: &MatmulInput,
    order: Order,
    bf16: bool,
) -> Result<MatmulPacked> {
    let kernel = match (order, bf16) {
        (Order::Groups, true) => "matmul_pack_bf16",
        (Order::Groups, false) => "matmul_pack_f16",
        (Order::Tokens, true) => "matmul_pack_tokens_bf16",
        (Order::Tokens, false) => "matmul_pack_tokens_f16",
    };
    let (what, n_steps) = (PACKED[usize::from(bf16)], packed_steps(input.cols));
    let packed = room(cuda, queue, what, input.n_tokens, n_steps)?;
    let n_blocks = match order {
        Order::Groups => packed.n_groups * MATMUL_GROUP_TOKENS,
        Order::Tokens => input.n_tokens,
    };
    let launch = Launch {
        module: "matmul_pack",
        kernel,
        grid: (n_blocks, 1, 1),
        threads: MATMUL_THREADS,
        shared_bytes: 0,
        params: MatmulPackParams {
            input: *input,
            packed,
        },
    };
    // SAFETY: by the caller's contract; the scratch memory has room for all three arrays.
    unsafe { queue.launch(&cuda.device, &launch) }?;
    Ok(packed)
}

/// Steps that activations of `cols` columns are packed to: whole records of any format.
pub(super) fn packed_steps(cols: u32) -> u32 {
    let record_cols = MATMUL_STEP_COLS * MATMUL_SUPER_BLOCK_STEPS;
    cols.div_ceil(record_cols) * MATMUL_SUPER_BLOCK_STEPS
}

/// Bytes of the fragments and of the sums of packed activations; the tokens' factors come behind.
fn array_bytes(n_tokens: u32, n_steps: u32) -> [usize; 3] {
    const HALF: usize = 2;
    const WORD: usize = 4;
    let n_blocks = (n_steps * MATMUL_STEP_COLS / BLOCK_COLS) as usize;
    let tokens = n_tokens.next_multiple_of(MATMUL_GROUP_TOKENS) as usize;
    let blocks = tokens * n_blocks;
    [
        blocks * BLOCK_COLS as usize * HALF,
        blocks * WORD,
        tokens * WORD,
    ]
}

/// Bytes of packed activations.
pub(super) fn packed_bytes(n_tokens: u32, n_steps: u32) -> usize {
    array_bytes(n_tokens, n_steps).iter().sum()
}

/// Scratch memory for the packed activations, as `params.h` lays them out.
pub(in crate::ops::matmul) fn room(
    cuda: &Cuda,
    queue: &mut Queue,
    what: &'static str,
    n_tokens: u32,
    n_steps: u32,
) -> Result<MatmulPacked> {
    let [fragments, sums, factors] = array_bytes(n_tokens, n_steps);
    let scratch = queue.scratch(&cuda.device, what, fragments + sums + factors)?;
    Ok(MatmulPacked {
        fragments: scratch.cast(),
        sums: scratch.wrapping_add(fragments).cast(),
        factors: scratch.wrapping_add(fragments + sums).cast(),
        n_groups: n_tokens.div_ceil(MATMUL_GROUP_TOKENS),
        n_blocks: n_steps * MATMUL_STEP_COLS / BLOCK_COLS,
    })
}

/// What the launches of a format's kernels take of shared memory.
pub(in crate::ops::matmul) fn shared_memory(tiling: Tiling) -> impl Iterator<Item = SharedMemory> {
    let kernels = tiling.prefill.into_iter();
    kernels.map(move |(n_tokens, kernel)| {
        SharedMemory::always(kernel, shared_bytes(&tiling, n_tokens))
    })
}

/// Launches the kernel of a part.
///
/// # Safety
/// The part has as many columns as were packed, and the output is as `abi.h` states.
pub(super) unsafe fn launch(
    cuda: &Cuda,
    queue: &mut Queue,
    part: &Part,
    tiling: &Tiling,
    Packed { packed, n_tokens }: Packed,
    output: MatmulOutput,
) -> Result<()> {
    let (weight, _) = part.weight(tiling);
    let [.., widest] = tiling.prefill;
    let fits = tiling
        .prefill
        .into_iter()
        .find(|kernel| kernel.0 >= n_tokens);
    let (tokens_a_block, kernel) = fits.unwrap_or(widest);
    let launch = Launch {
        module: tiling.module,
        kernel,
        grid: (
            n_tokens.div_ceil(tokens_a_block),
            weight.n_tiles.div_ceil(MATMUL_WARPS),
            1,
        ),
        threads: MATMUL_THREADS,
        shared_bytes: shared_bytes(tiling, tokens_a_block),
        params: MatmulPrefillParams {
            weight,
            packed,
            output,
            n_tokens,
        },
    };
    // SAFETY: by the contract above; the launch is as `prefill.cuh` asks for.
    unsafe { queue.launch(&cuda.device, &launch) }
}

/// Shared memory of a block, `PrefillShape::BYTES` of `prefill.cuh`.
fn shared_bytes(tiling: &Tiling, n_tokens: u32) -> u32 {
    let sums = match tiling.has_minima {
        true => n_tokens * tiling.record_steps * MATMUL_STEP_COLS / BLOCK_COLS * 4,
        false => 0,
    };
    shared_bytes_without_sums(tiling, n_tokens) + record_slots(tiling) * sums
}

/// The same where the sums of activations stand apart.
pub(crate) fn shared_bytes_without_sums(tiling: &Tiling, n_tokens: u32) -> u32 {
    let n_groups = n_tokens / MATMUL_GROUP_TOKENS;
    let stage = MATMUL_WARPS * tiling.step_bytes + n_groups * GROUP_BYTES;
    MATMUL_STAGES * stage + record_slots(tiling) * MATMUL_WARPS * tiling.record_bytes
}

/// `PrefillShape::RECORD_SLOTS`.
fn record_slots(tiling: &Tiling) -> u32 {
    MATMUL_STAGES / tiling.record_steps + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::layout::tiling;
    use crate::quant::Format;

    #[test]
    fn blocks_fit_into_the_least_shared_memory_of_any_gpu() {
        // 99 KiB on compute capability 8.6, 8.9 and 12.0.
        for tiling in Format::ALL.into_iter().filter_map(tiling) {
            for (n_tokens, kernel) in tiling.prefill {
                assert!(shared_bytes(&tiling, n_tokens) <= 99 << 10, "{kernel}");
            }
        }
    }
}
