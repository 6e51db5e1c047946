//! What the launches of attention take of shared memory.

use super::{KERNELS, Kernels, NARROW_CUT};
use crate::cuda::SharedMemory;
use crate::cuda::kv::KvType;
use crate::ops::attention::hopper;

/// Of every kernel, by the cut that its launches have.
pub(crate) fn memory() -> Vec<SharedMemory> {
    let hopper = hopper::kernels();
    let hopper = hopper.map(|kernel| SharedMemory::always(kernel.name, kernel.shared_bytes));
    KERNELS.iter().flat_map(of_width).chain(hopper).collect()
}

fn of_width(kernels: &Kernels) -> impl Iterator<Item = SharedMemory> {
    let width = kernels.width as u32;
    let cuts = [
        (kernels.narrow, NARROW_CUT),
        (kernels.wide, kernels.wide_cut),
        (kernels.prefill, kernels.prefill_cut),
    ];
    cuts.into_iter().flat_map(move |(names, cut)| {
        [KvType::Bf16, KvType::Int8].map(|element| {
            SharedMemory::always(names[element as usize], cut.shared_bytes(width, element))
        })
    })
}
