//! How many warps of a kernel a multiprocessor can hold.
//!
//! Limits by compute capability: CUDA C++ Programming Guide 13.0, "Technical Specifications per
//! Compute Capability"; the units in which registers and shared memory are given out are those of
//! NVIDIA's occupancy calculator (Nsight Compute).

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

/// Warps that are resident on a multiprocessor; 0 where a block does not fit at all.
pub fn resident_warps(limits: Limits, block: Block) -> u32 {
    let warps = block.threads.div_ceil(32).max(1);
    let warp_registers = (block.registers.max(1) * 32).next_multiple_of(REGISTER_UNIT);
    // Each of the four partitions holds registers for its own warps.
    let by_registers = (REGISTERS / 4 / warp_registers) * 4 / warps;
    let shared = (block.shared_bytes + SYSTEM_SHARED).next_multiple_of(SHARED_UNIT);
    let blocks = limits
        .blocks
        .min(limits.warps / warps)
        .min(by_registers)
        .min(limits.shared_bytes / shared);
    blocks * warps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warps(arch: &str, threads: u32, registers: u32, shared_bytes: u32) -> u32 {
        let block = Block {
            threads,
            registers,
            shared_bytes,
        };
        resident_warps(limits(arch).expect("known"), block)
    }

    /// By hand, and each limited by another resource.
    #[test]
    fn the_scarcest_resource_decides() {
        // Warps: 2 blocks of 1024 threads are 64.
        assert_eq!(warps("sm_90a", 1024, 32, 0), 64);
        // Registers: 128 · 32 = 4096 a warp, four a partition, 16 in all.
        assert_eq!(warps("sm_90a", 256, 128, 0), 16);
        // 40 · 32 = 1280: 12 a partition, 48 in all: 6 blocks of 8 warps.
        assert_eq!(warps("sm_80", 256, 40, 0), 48);
        // 255 registers: 8192 a warp, two a partition.
        assert_eq!(warps("sm_80", 256, 255, 0), 8);
        // Shared memory: 64 KiB + 1 KiB fit three times into 228 KiB and once into 100 KiB.
        assert_eq!(warps("sm_90a", 128, 32, 64 << 10), 12);
        assert_eq!(warps("sm_86", 128, 32, 64 << 10), 4);
        // Blocks: 16 of one warp on sm_86.
        assert_eq!(warps("sm_86", 32, 32, 0), 16);
        assert_eq!(warps("sm_89", 32, 32, 0), 24);
        // Nothing fits.
        assert_eq!(warps("sm_120a", 128, 32, 100 << 10), 0);
        assert_eq!(warps("sm_80", 1024, 128, 0), 0);
    }

    #[test]
    fn an_architecture_that_is_not_in_the_table_has_no_limits() {
        assert_eq!(capability("sm_100a"), Some(100));
        assert_eq!(limits("sm_75"), None);
        assert_eq!(limits("compute_80"), None);
    }
}
