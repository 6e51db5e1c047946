//! How many instructions a GPU can issue while a weight arrives, and which kernels take more of
//! them than they should.
//!
//! A decode matmul reads every weight once. It is bound by memory only if its instructions are
//! issued faster than its bytes arrive, with room for what waits: its inner loop is to take no more
//! than half of what the GPU can issue meanwhile. That is arithmetic on published figures, not a
//! measurement; what an instruction needs beside its slot is not in it (on compute capability 8.6
//! and 8.9 integers go at half that rate).

use onward_kernels::Format;

/// Warp schedulers of a multiprocessor, each of which issues one instruction a clock: CUDA C++
/// Programming Guide 13.0, "Compute Capabilities", 8.x to 12.x.
const SCHEDULERS: f64 = 4.0;

/// A GPU that stands for an architecture.
#[derive(Clone, Copy, Debug)]
pub struct Gpu {
    /// `sm_80`.
    pub arch: &'static str,
    /// The name it is sold by.
    pub name: &'static str,
    /// Its multiprocessors.
    multiprocessors: f64,
    /// Its boost clock in GHz.
    clock: f64,
    /// Bytes that its memory delivers, in GB/s.
    memory: f64,
}

/// For each architecture the GPU that leaves its kernels least room among those of NVIDIA's that
/// are common. Multiprocessors, boost clock and peak of the memory are those of
///
/// - A100 80GB SXM: "NVIDIA A100 Tensor Core GPU Architecture" (white paper, 2020) and the data
///   sheet of the 80 GB module;
/// - RTX 3090: "NVIDIA Ampere GA102 GPU Architecture" (white paper, 2021);
/// - RTX 4090: "NVIDIA Ada GPU Architecture" (white paper, 2023); an L40S has 142 multiprocessors,
///   the same clock and 864 GB/s, which leaves more room;
/// - H100 SXM: "NVIDIA H100 Tensor Core GPU Architecture" (white paper, 2022) for the
///   multiprocessors; of its 3.35 TB/s copies get 3.2 at best. An H200 has the same multiprocessors
///   and 4.8 TB/s, two thirds of this room: the rule is not held to it;
/// - B200: data sheet of HGX B200, 64 TB/s and 18 PFLOP/s of dense bf16 by eight GPUs of 148
///   multiprocessors, each 8192 a clock, from which the clock follows;
/// - RTX 5090: "NVIDIA RTX Blackwell GPU Architecture" (white paper, 2025).
pub const GPUS: [Gpu; 6] = [
    gpu("sm_80", "A100 80GB SXM", 108.0, 1.41, 2039.0),
    gpu("sm_86", "RTX 3090", 82.0, 1.695, 936.0),
    gpu("sm_89", "RTX 4090", 128.0, 2.52, 1008.0),
    gpu("sm_90a", "H100 SXM", 132.0, 1.76, 3200.0),
    gpu("sm_100a", "B200", 148.0, 1.85, 8000.0),
    gpu("sm_120a", "RTX 5090", 170.0, 2.407, 1792.0),
];

const fn gpu(
    arch: &'static str,
    name: &'static str,
    multiprocessors: f64,
    clock: f64,
    memory: f64,
) -> Gpu {
    Gpu {
        arch,
        name,
        multiprocessors,
        clock,
        memory,
    }
}

impl Gpu {
    /// Warp-instructions in 10⁹ a second.
    pub fn issue_rate(&self) -> f64 {
        self.multiprocessors * SCHEDULERS * self.clock
    }

    /// Bytes that arrive from memory, in GB/s.
    pub fn memory_rate(&self) -> f64 {
        self.memory
    }
}

/// The GPU that stands for an architecture.
pub fn of(arch: &str) -> Option<Gpu> {
    GPUS.into_iter().find(|gpu| gpu.arch == arch)
}

/// Warp-instructions that the GPU of an architecture issues while its memory delivers 32 weights.
pub fn budget(arch: &str, format: Format) -> Option<f64> {
    let gpu = of(arch)?;
    let bytes = format.block_bytes() as f64 / format.block_len() as f64 * 32.0;
    Some(gpu.issue_rate() / gpu.memory_rate() * bytes)
}

/// A kernel that takes more than half of the budget.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    /// The architecture.
    pub arch: &'static str,
    /// The kernel.
    pub kernel: &'static str,
    /// What its inner loop took for 32 weights when this was written. It may not take more.
    pub instructions: f64,
}

const fn over(arch: &'static str, kernel: &'static str, instructions: f64) -> Over {
    Over {
        arch,
        kernel,
        instructions,
    }
}

/// All that take more than half. A B200's memory is 2.5 times as fast as an H100's, and it issues
/// hardly more: there only floats of 16 bits and Q8_0 keep to the rule, and MXFP4 and formats of
/// five bits are over the whole of the budget: bound by instructions, not by memory.
pub const OVER: [Over; 22] = [
    over("sm_100a", "matmul_f8_e4m3_decode", 2.88),
    over("sm_100a", "matmul_int4_g128_decode", 1.89),
    over("sm_100a", "matmul_int4_g32_decode", 2.28),
    over("sm_100a", "matmul_mxfp4_decode", 2.41),
    over("sm_100a", "matmul_q4_0_decode", 2.02),
    over("sm_100a", "matmul_q4_1_decode", 2.56),
    over("sm_100a", "matmul_q4_k_decode", 2.38),
    over("sm_100a", "matmul_q5_0_decode", 3.33),
    over("sm_100a", "matmul_q5_1_decode", 3.85),
    over("sm_100a", "matmul_q5_k_decode", 3.71),
    over("sm_100a", "matmul_q6_k_decode", 3.29),
    over("sm_100a", "moe_f8_e4m3_decode", 2.88),
    over("sm_100a", "moe_int4_g128_decode", 1.89),
    over("sm_100a", "moe_int4_g32_decode", 2.34),
    over("sm_100a", "moe_mxfp4_decode", 2.47),
    over("sm_100a", "moe_q4_0_decode", 2.05),
    over("sm_100a", "moe_q4_1_decode", 2.49),
    over("sm_100a", "moe_q4_k_decode", 2.32),
    over("sm_100a", "moe_q5_0_decode", 3.33),
    over("sm_100a", "moe_q5_1_decode", 3.81),
    over("sm_100a", "moe_q5_k_decode", 3.70),
    over("sm_100a", "moe_q6_k_decode", 3.18),
];

/// The entry of a kernel that takes more than half.
pub fn recorded(list: &[Over], arch: &str, kernel: &str) -> Option<Over> {
    let is_it = |over: &&Over| over.arch == arch && over.kernel == kernel;
    list.iter().find(is_it).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 132 · 4 · 1.76 GHz = 929 G/s for 3200 GB/s, which is 0.29 a byte.
    #[test]
    fn budgets_are_those_of_the_bits_of_a_weight() {
        for (arch, format, expected) in [
            ("sm_90a", Format::Bf16, 18.6),
            ("sm_90a", Format::Q8_0, 9.9),
            ("sm_90a", Format::Q4K, 5.2),
            ("sm_90a", Format::Q6K, 7.6),
            ("sm_80", Format::Q4K, 5.4),
            ("sm_86", Format::Q4K, 10.7),
            ("sm_89", Format::Q4K, 23.0),
            ("sm_100a", Format::Q4K, 2.5),
            ("sm_120a", Format::Q4K, 16.4),
        ] {
            let found = budget(arch, format).expect("a known GPU");
            assert!((found - expected).abs() < 0.05, "{arch}, {format}: {found}");
        }
        assert_eq!(budget("sm_75", Format::Q4K), None);
    }

    #[test]
    fn every_architecture_of_the_table_has_its_gpu() {
        assert_eq!(GPUS.map(|gpu| gpu.arch), super::super::DEFAULT_ARCHS);
    }
}
