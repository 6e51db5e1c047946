//! Dynamic shared memory of every kernel that has some, gathered from the operations, whose
//! launches take their sizes from the same functions.
//!
//! The queue allows a kernel its largest size when it loads it and refuses a launch with more, so
//! what is said here is what happens.

use std::sync::LazyLock;

use crate::ops::{attention, matmul, moe_matmul, sample};

/// Bytes of dynamic shared memory that blocks of a kernel are launched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// The kernel's name.
    pub kernel: &'static str,
    /// In a usual launch; for a matmul of few tokens that is one token and a matrix of 4096 rows
    /// and columns.
    pub typical: u32,
    /// The most of any launch.
    pub largest: u32,
}

impl SharedMemory {
    /// A kernel whose launches all take the same.
    pub(crate) fn always(kernel: &'static str, bytes: u32) -> Self {
        Self {
            kernel,
            typical: bytes,
            largest: bytes,
        }
    }
}

/// Every kernel with dynamic shared memory, once.
static KERNELS: LazyLock<Vec<SharedMemory>> = LazyLock::new(|| {
    let mut kernels = attention::cuda::shared::memory();
    kernels.extend(matmul::shared::memory());
    kernels.extend(moe_matmul::cuda::prefill::shared_memory());
    kernels.extend(sample::cuda::shared_memory());
    kernels
});

/// Every kernel with dynamic shared memory, and how much.
pub fn shared_memory() -> &'static [SharedMemory] {
    &KERNELS
}

/// The most that a launch of `kernel` may ask for.
pub(crate) fn largest(kernel: &str) -> u32 {
    let mut kernels = KERNELS.iter();
    kernels
        .find(|known| known.kernel == kernel)
        .map_or(0, |known| known.largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_once_and_typical_launches_are_no_larger_than_the_largest() {
        let mut names: Vec<&str> = KERNELS.iter().map(|known| known.kernel).collect();
        let n_kernels = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n_kernels);
        for known in KERNELS.iter() {
            assert!(
                0 < known.typical && known.typical <= known.largest,
                "{known:?}"
            );
        }
        assert!(names.contains(&"matmul_q4_k_decode") && names.contains(&"sample_draw"));
        assert_eq!(largest("rms_norm"), 0);
    }
}
