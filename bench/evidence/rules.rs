//! What the machine code of a kernel must and must not have.

use super::row::{self, Row};

/// Kernels that may keep values in local memory: not hot, and nothing else reads well.
const MAY_SPILL: [&str; 0] = [];

/// The architecture that the budget of instructions is held on: it is an H100's.
const BUDGETED: &str = "sm_90a";

/// What is wrong with a kernel, a sentence each.
pub fn faults(row: &Row) -> Vec<String> {
    let has =
        |operation: &str| row.mma.contains_key(operation) || row.copies.contains_key(operation);
    let mut faults = Vec::new();
    let mut fault = |is_fault: bool, text: String| {
        if is_fault {
            faults.push(format!("{} on {}: {text}", row.kernel, row.arch));
        }
    };
    let spills = (row.spilled > 0 || row.stack > 0) && !MAY_SPILL.contains(&row.kernel.as_str());
    fault(
        spills,
        format!(
            "{} bytes of loads from and stores to local memory, {} bytes of stack",
            row.spilled, row.stack
        ),
    );
    if let Some((warps, _)) = row.warps {
        fault(
            warps == 0,
            "no block of it fits on a multiprocessor".to_owned(),
        );
    }
    for expected in expected(row) {
        let there = match expected {
            Expected::Operation(name) => has(name),
            Expected::WideLoads => row.loads.contains_key(&16),
        };
        fault(!there, format!("no {expected}"));
    }
    if let Some(format) = row::decode_name(&row.kernel) {
        match row.decode {
            Some(decode) => fault(
                row.arch == BUDGETED && decode.instructions > decode.budget / 2.0,
                format!(
                    "{:.2} warp-instructions per 32 weights are over half of the {:.1} that can \
                     be issued while they arrive",
                    decode.instructions, decode.budget
                ),
            ),
            None => fault(
                true,
                format!("no inner loop with mma over weights of {format:?}"),
            ),
        }
    }
    faults
}

/// Something that a kernel's machine code must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Operation(&'static str),
    /// 16 bytes a thread.
    WideLoads,
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operation(name) => f.write_str(name),
            Self::WideLoads => f.write_str("LDG.E.128"),
        }
    }
}

/// By the kernel's name: `…_hopper`; `<op>_<format>_decode`; `matmul_<format>_n<tokens>`, which has
/// a pipeline through shared memory; `attention_prefill…` and `attention_decode…`, likewise.
fn expected(row: &Row) -> &'static [Expected] {
    use Expected::{Operation, WideLoads};
    let name = row.kernel.as_str();
    let is_pipeline = |name: &str| {
        name.strip_prefix("matmul_")
            .and_then(|rest| rest.rsplit_once("_n"))
            .is_some_and(|(_, tokens)| tokens.parse::<u32>().is_ok())
    };
    let is_attention = ["attention_prefill", "attention_decode"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if name.ends_with("_hopper") {
        &[Operation("HGMMA"), Operation("UBLKCP")]
    } else if row::decode_name(name).is_some() {
        &[Operation("HMMA"), WideLoads]
    } else if is_pipeline(name) || is_attention {
        &[Operation("HMMA"), Operation("LDGSTS")]
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::row::Decode;
    use crate::evidence::sass;
    use crate::evidence::tools::Resources;

    /// The recorded kernel under a name.
    fn row(name: &str) -> Row {
        let listing = sass::parse(include_str!("sample.sass"));
        let resources = Resources {
            registers: 40,
            stack: 0,
            shared: 1152,
        };
        let names = ("matmul", name, "sm_90a");
        Row::new(names, &listing.kernels["decode"], resources, None)
    }

    fn only_fault(row: &Row) -> String {
        match faults(row).as_slice() {
            [fault] => fault.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_kernel_has_no_fault() {
        assert!(faults(&row("matmul_bf16_decode")).is_empty());
        assert!(faults(&row("anything")).is_empty());
    }

    #[test]
    fn each_planted_fault_is_named() {
        let sound = row("matmul_bf16_decode");
        let mut spilled = sound.clone();
        spilled.spilled = 24;
        assert!(only_fault(&spilled).contains("24 bytes of loads from and stores to local"));
        let mut stack = sound.clone();
        stack.stack = 8;
        assert!(only_fault(&stack).contains("8 bytes of stack"));

        let mut narrow = sound.clone();
        narrow.loads = [(4, 3)].into();
        assert!(only_fault(&narrow).contains("no LDG.E.128"));
        let mut scalar = sound.clone();
        scalar.mma.clear();
        assert!(only_fault(&scalar).contains("no HMMA"));

        let mut slow = sound.clone();
        slow.decode = Some(Decode {
            instructions: 9.31,
            budget: 18.6,
        });
        assert!(only_fault(&slow).contains("9.31 warp-instructions per 32 weights"));
        // The budget is one GPU's; code for others is counted, not held to it.
        slow.arch = "sm_80".to_owned();
        assert!(faults(&slow).is_empty());
        let mut crowded = sound.clone();
        crowded.warps = Some((0, 64));
        assert!(only_fault(&crowded).contains("no block of it fits"));

        // A format that nobody knows has no budget to be held to.
        assert!(only_fault(&row("matmul_q9_decode")).contains("q9"));
        assert!(only_fault(&row("matmul_bf16_n64")).contains("no LDGSTS"));
        assert!(only_fault(&row("attention_prefill_64")).contains("no LDGSTS"));
        let hopper = faults(&row("matmul_bf16_hopper"));
        assert_eq!(hopper.len(), 2, "{hopper:?}");
        assert!(hopper[0].contains("no HGMMA") && hopper[1].contains("no UBLKCP"));
    }
}
