//! One kernel on one architecture: what its machine code says.

use std::collections::BTreeMap;

use onward_kernels::Format;
use serde::Serialize;

use super::budget;
use super::occupancy::{self, Block, Residency};
use super::sass::{Instruction, Kernel};
use super::tools::Resources;

/// Weights in an operand A of `mma.m16n8k16`, over groups of 32.
const GROUPS_PER_MMA: f64 = 16.0 * 16.0 / 32.0;

/// What is known of a kernel on an architecture.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The stem of the `.cu` file.
    pub module: String,
    /// The kernel's name.
    pub kernel: String,
    /// `sm_90a`.
    pub arch: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes that the code stores to and loads from a thread's local memory, each such
    /// instruction once: spills, and arrays that are not in registers.
    pub spilled: usize,
    /// Static shared memory of a block in bytes.
    pub static_shared: u32,
    /// Dynamic shared memory of a block.
    pub dynamic_shared: DynamicShared,
    /// Whether the code works on shared memory.
    pub works_on_shared: bool,
    /// Threads of a block at most.
    pub threads: Option<u32>,
    /// Where the threads and the architecture are known.
    pub occupancy: Option<Occupancy>,
    /// Tensor core instructions by mnemonic.
    pub mma: BTreeMap<String, usize>,
    /// Asynchronous copies into shared memory by mnemonic.
    pub copies: BTreeMap<String, usize>,
    /// Global loads by bytes a thread.
    pub loads: BTreeMap<usize, usize>,
    /// Of the weights' inner loop, for a decode matmul.
    pub decode: Option<Decode>,
}

/// Bytes of dynamic shared memory that a block is launched with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DynamicShared {
    /// In a usual launch.
    pub typical: u32,
    /// The most.
    pub largest: u32,
}

/// What a multiprocessor holds of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// With a usual launch's shared memory.
    pub typical: Residency,
    /// With the largest launch's.
    pub largest: Residency,
    /// Warps that it can hold.
    pub all: u32,
}

/// The inner loop of a decode matmul.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Decode {
    /// Warp-instructions per 32 weights.
    pub instructions: f64,
    /// How many the GPU can issue while 32 weights arrive; none where none is known.
    pub budget: Option<f64>,
    /// Of the bytes that the loop loads from global memory, the share that comes in accesses of
    /// 16 a thread; none where it loads nothing.
    pub wide: Option<f64>,
}

impl Decode {
    /// Whether it takes more than half of the budget.
    pub fn is_over(&self) -> bool {
        self.budget
            .is_some_and(|budget| self.instructions > budget / 2.0)
    }
}

const TENSOR: [&str; 7] = ["HMMA", "IMMA", "QMMA", "OMMA", "HGMMA", "IGMMA", "QGMMA"];
const COPIES: [&str; 3] = ["LDGSTS", "UTMALDG", "UBLKCP"];
/// Beside copies, what touches shared memory.
const SHARED: [&str; 5] = ["LDS", "STS", "LDSM", "STSM", "ATOMS"];

impl Row {
    /// Puts together what the two tools say of a kernel.
    pub fn new(
        (module, name, arch): (&str, &str, &str),
        kernel: &Kernel,
        resources: Resources,
        dynamic_shared: DynamicShared,
    ) -> Self {
        let capability = occupancy::capability(arch).unwrap_or_default();
        // From Hopper on the file counts what the system keeps of a kernel's shared memory.
        let counted = if capability >= 90 && resources.shared > 0 {
            occupancy::SYSTEM_SHARED
        } else {
            0
        };
        let static_shared = resources.shared.saturating_sub(counted);
        let occupancy = occupancy::limits(arch)
            .zip(kernel.max_threads)
            .map(|(limits, threads)| {
                let with = |dynamic| {
                    let block = Block {
                        threads,
                        registers: resources.registers,
                        shared_bytes: static_shared + dynamic,
                    };
                    occupancy::residency(limits, block)
                };
                Occupancy {
                    typical: with(dynamic_shared.typical),
                    largest: with(dynamic_shared.largest),
                    all: limits.warps,
                }
            });
        let is = |names: &'static [&str]| {
            move |instruction: &&Instruction| names.contains(&instruction.operation())
        };
        let mnemonics = |names| {
            count(
                kernel
                    .instructions()
                    .filter(is(names))
                    .map(|instruction| instruction.operation().to_owned()),
            )
        };
        Self {
            module: module.to_owned(),
            kernel: name.to_owned(),
            arch: arch.to_owned(),
            registers: resources.registers,
            stack: resources.stack,
            spilled: kernel
                .instructions()
                .filter(is(&["STL", "LDL"]))
                .map(Instruction::bytes)
                .sum(),
            static_shared,
            dynamic_shared,
            works_on_shared: kernel
                .instructions()
                .any(|instruction| is(&SHARED)(&instruction) || is(&COPIES)(&instruction)),
            threads: kernel.max_threads,
            occupancy,
            mma: mnemonics(&TENSOR),
            copies: mnemonics(&COPIES),
            loads: count(
                kernel
                    .instructions()
                    .filter(is(&["LDG"]))
                    .map(Instruction::bytes),
            ),
            decode: decode_format(name).and_then(|format| decode(kernel, format, arch)),
        }
    }
}

fn count<K: Ord>(items: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// The part of `matmul_<format>_decode` or `moe_<format>_decode` that names the format.
pub fn decode_name(kernel: &str) -> Option<&str> {
    let rest = ["matmul_", "moe_"]
        .iter()
        .find_map(|operation| kernel.strip_prefix(operation))?;
    rest.strip_suffix("_decode")
}

/// The format of a decode matmul's weights.
pub fn decode_format(kernel: &str) -> Option<Format> {
    let name = decode_name(kernel)?;
    Format::ALL
        .into_iter()
        .find(|format| format.name().eq_ignore_ascii_case(name))
}

fn decode(kernel: &Kernel, format: Format, arch: &str) -> Option<Decode> {
    let body = kernel.hottest_loop("HMMA")?;
    let n_mma = body.iter().filter(|i| i.operation() == "HMMA").count();
    let groups = n_mma as f64 * GROUPS_PER_MMA * weight_share(format);
    let bytes = |least: usize| -> usize {
        let loads = body.iter().filter(|i| i.operation() == "LDG");
        loads.map(|i| i.bytes()).filter(|&n| n >= least).sum()
    };
    Some(Decode {
        instructions: body.len() as f64 / groups,
        budget: budget::budget(arch, format),
        wide: (bytes(0) > 0).then(|| bytes(16) as f64 / bytes(0) as f64),
    })
}

/// The share of the mma's that multiply weights: minima take one beside sixteen in a K-quant's
/// record of four steps, beside four in a record of one.
fn weight_share(format: Format) -> f64 {
    match format {
        Format::Q4K | Format::Q5K => 16.0 / 17.0,
        Format::Q4_1 | Format::Q5_1 => 4.0 / 5.0,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::occupancy::Scarce;
    use crate::evidence::sass;

    #[test]
    fn a_decode_matmul_is_known_by_its_name() {
        assert_eq!(decode_format("matmul_q4_k_decode"), Some(Format::Q4K));
        assert_eq!(decode_format("moe_bf16_decode"), Some(Format::Bf16));
        assert_eq!(decode_format("matmul_bf16_prefill"), None);
        assert_eq!(decode_name("matmul_q9_decode"), Some("q9"));
        assert_eq!(decode_format("matmul_q9_decode"), None);
    }

    #[test]
    fn a_row_tells_resources_instructions_and_the_inner_loop() {
        let listing = sass::parse(include_str!("sample.sass"));
        let resources = Resources {
            registers: 40,
            stack: 0,
            shared: 1152,
        };
        let names = ("matmul", "matmul_bf16_decode", "sm_90a");
        let dynamic = DynamicShared {
            typical: 4096,
            largest: 72 << 10,
        };
        let row = Row::new(names, &listing.kernels["decode"], resources, dynamic);
        assert_eq!((row.static_shared, row.dynamic_shared), (128, dynamic));
        let occupancy = Occupancy {
            typical: Residency {
                warps: 48,
                scarce: Scarce::Registers,
            },
            // 73 KiB and an eighth fit three times into 228.
            largest: Residency {
                warps: 24,
                scarce: Scarce::Shared,
            },
            all: 64,
        };
        assert_eq!((row.threads, row.occupancy), (Some(256), Some(occupancy)));
        assert_eq!(row.mma, BTreeMap::from([("HMMA".to_owned(), 4)]));
        assert_eq!(row.loads, BTreeMap::from([(16, 1)]));
        assert_eq!((row.spilled, row.copies.len()), (0, 0));
        // Five instructions of the loop, two of them mma of 8 groups of weights.
        let decode = row.decode.expect("a loop");
        assert_eq!((decode.instructions, decode.wide), (5.0 / 16.0, Some(1.0)));
    }
}
