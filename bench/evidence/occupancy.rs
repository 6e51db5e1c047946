//! How many warps of a kernel a multiprocessor can hold.
//!
//! Limits by compute capability: CUDA C++ Programming Guide 13.0, "Technical Specifications per
//! Compute Capability"; the units in which registers and shared memory are given out are those of
//! NVIDIA's occupancy calculator (Nsight Compute).

use std::fmt;

use serde::Serialize;

/// Registers of a multiprocessor, on every GPU since Volta.
const REGISTERS: u32 = 65536;
/// Registers are given to a warp in units of these.
const REGISTER_UNIT: u32 = 256;
/// Shared memory is given to a block in units of these.
const SHARED_UNIT: u32 = 128;
/// Shared memory of each block that the system keeps, on every GPU since Ampere.
pub const SYSTEM_SHARED: u32 = 1024;

/// What a multiprocessor of an architecture offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Warps that are resident at most.
    pub warps: u32,
    /// Blocks that are resident at most.
    pub blocks: u32,
    /// Shared memory in bytes.
    pub shared_bytes: u32,
}

/// The limits of an architecture such as `sm_90a`; none where they are not known here.
pub fn limits(arch: &str) -> Option<Limits> {
    let (warps, blocks, shared_kib) = match capability(arch)? {
        80 => (64, 32, 164),
        86 => (48, 16, 100),
        89 => (48, 24, 100),
        90 | 100 | 103 => (64, 32, 228),
        120 | 121 => (48, 24, 100),
        _ => return None,
    };
    Some(Limits {
        warps,
        blocks,
        shared_bytes: shared_kib << 10,
    })
}

/// 90 of `sm_90a`.
pub fn capability(arch: &str) -> Option<u32> {
    let digits = arch.strip_prefix("sm_")?.trim_end_matches(['a', 'f']);
    digits.parse().ok()
}

/// What a block of a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Threads.
    pub threads: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Shared memory in bytes, static and dynamic.
    pub shared_bytes: u32,
}

/// What keeps a multiprocessor from holding more of a kernel's warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scarce {
    /// It holds as many warps as it can, or no further block of so many.
    Warps,
    /// It holds as many blocks as it can.
    Blocks,
    /// Registers.
    Registers,
    /// Shared memory.
    Shared,
}

impl fmt::Display for Scarce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warps => "warps",
            Self::Blocks => "blocks",
            Self::Registers => "registers",
            Self::Shared => "shared",
        })
    }
}

/// What a multiprocessor holds of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Residency {
    /// Resident warps; 0 where a block does not fit at all.
    pub warps: u32,
    /// What keeps it from holding more.
    pub scarce: Scarce,
}

/// How many warps are resident on a multiprocessor.
pub fn residency(limits: Limits, block: Block) -> Residency {
    let warps = block.threads.div_ceil(32).max(1);
    let warp_registers = (block.registers.max(1) * 32).next_multiple_of(REGISTER_UNIT);
    // Each of the four partitions holds registers for its own warps.
    let by_registers = (REGISTERS / 4 / warp_registers) * 4 / warps;
    let shared = (block.shared_bytes + SYSTEM_SHARED).next_multiple_of(SHARED_UNIT);
    // Of equals the first is named.
    let (blocks, scarce) = [
        (limits.warps / warps, Scarce::Warps),
        (limits.blocks, Scarce::Blocks),
        (by_registers, Scarce::Registers),
        (limits.shared_bytes / shared, Scarce::Shared),
    ]
    .into_iter()
    .min_by_key(|&(blocks, _)| blocks)
    .unwrap_or((0, Scarce::Warps));
    Residency {
        warps: blocks * warps,
        scarce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(arch: &str, threads: u32, registers: u32, shared_bytes: u32) -> (u32, Scarce) {
        let block = Block {
            threads,
            registers,
            shared_bytes,
        };
        let found = residency(limits(arch).expect("known"), block);
        (found.warps, found.scarce)
    }

    /// By hand, and each limited by another resource.
    #[test]
    fn the_scarcest_resource_decides() {
        use Scarce::{Blocks, Registers, Shared, Warps};
        // Warps: 2 blocks of 1024 threads are 64.
        assert_eq!(held("sm_90a", 1024, 32, 0), (64, Warps));
        // Registers: 128 · 32 = 4096 a warp, four a partition, 16 in all.
        assert_eq!(held("sm_90a", 256, 128, 0), (16, Registers));
        // 40 · 32 = 1280: 12 a partition, 48 in all: 6 blocks of 8 warps.
        assert_eq!(held("sm_80", 256, 40, 0), (48, Registers));
        // 255 registers: 8192 a warp, two a partition.
        assert_eq!(held("sm_80", 256, 255, 0), (8, Registers));
        // Shared memory: 64 KiB + 1 KiB fit three times into 228 KiB and once into 100 KiB.
        assert_eq!(held("sm_90a", 128, 32, 64 << 10), (12, Shared));
        assert_eq!(held("sm_86", 128, 32, 64 << 10), (4, Shared));
        // Blocks: 16 of one warp on sm_86.
        assert_eq!(held("sm_86", 32, 32, 0), (16, Blocks));
        assert_eq!(held("sm_89", 32, 32, 0), (24, Blocks));
        // Nothing fits.
        assert_eq!(held("sm_80", 1024, 128, 0), (0, Registers));
    }

    /// A block gets all but the system's KiB: 163 KiB on compute capability 8.0, 99 on 8.6, 8.9
    /// and 12.0, 227 on 9.0 and 10.0 (CUDA C++ Programming Guide 13.0, as above).
    #[test]
    fn a_block_may_have_all_of_the_shared_memory_but_a_kib() {
        for (arch, kib) in [
            ("sm_80", 163),
            ("sm_86", 99),
            ("sm_89", 99),
            ("sm_90a", 227),
            ("sm_100a", 227),
            ("sm_120a", 99),
        ] {
            assert_eq!(
                held(arch, 128, 32, kib << 10),
                (4, Scarce::Shared),
                "{arch}"
            );
            assert_eq!(
                held(arch, 128, 32, (kib << 10) + 1),
                (0, Scarce::Shared),
                "{arch}"
            );
        }
    }

    #[test]
    fn an_architecture_that_is_not_in_the_table_has_no_limits() {
        assert_eq!(capability("sm_100a"), Some(100));
        assert_eq!(limits("sm_75"), None);
        assert_eq!(limits("compute_80"), None);
    }
}
