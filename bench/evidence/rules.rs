//! What the machine code of a kernel must and must not have. `planted.rs` shows each rule failing.

use onward_kernels::cuda::SharedMemory;

use super::budget::{self, Over};
use super::row::{self, Decode, Row};

/// Kernels that may keep values in local memory: not hot, and nothing else reads well.
const MAY_SPILL: [&str; 0] = [];

/// The least share of the bytes of a decode matmul's inner loop that comes in loads of 16 bytes a
/// thread, a warp's 512 in a row. The rest are scales, and the high bits of some formats.
const LEAST_WIDE: f64 = 0.5;

/// Instructions per 32 weights are written with two digits, and may change by what these hide.
const ROUNDING: f64 = 0.005;

/// What is wrong with a kernel, a sentence each.
pub fn faults(row: &Row) -> Vec<String> {
    faults_beside(row, &budget::OVER)
}

/// The same with another list of the kernels that are known to be over half of their budget.
fn faults_beside(row: &Row, known: &[Over]) -> Vec<String> {
    let texts = [local_memory(row), shared_memory(row), instructions(row)].concat();
    let loops = inner_loop(row, known);
    let named = |text: String| format!("{} on {}: {text}", row.kernel, row.arch);
    texts.into_iter().chain(loops).map(named).collect()
}

/// What is known of kernels that are not there: over their budget on an architecture of these rows,
/// or with shared memory although none of that name was compiled. A sentence each.
pub fn unknown(rows: &[Row], known: &[Over], shared: &[SharedMemory]) -> Vec<String> {
    let is_built = |arch: &str| rows.iter().any(|row| row.arch == arch);
    let over = known
        .iter()
        .filter(|over| is_built(over.arch))
        .filter(|over| {
            let is_it = |row: &Row| row.arch == over.arch && row.kernel == over.kernel;
            !rows.iter().any(is_it)
        })
        .map(|over| {
            format!(
                "budget::OVER lists {} on {}, which is no kernel",
                over.kernel, over.arch
            )
        });
    let shared = shared
        .iter()
        .filter(|listed| !rows.iter().any(|row| row.kernel == listed.kernel))
        .map(|listed| {
            format!(
                "shared memory is given to {}, which is no kernel",
                listed.kernel
            )
        });
    over.chain(shared).collect()
}

fn local_memory(row: &Row) -> Vec<String> {
    let spills = (row.spilled > 0 || row.stack > 0) && !MAY_SPILL.contains(&row.kernel.as_str());
    let text = || {
        format!(
            "{} bytes of loads from and stores to local memory, {} bytes of stack",
            row.spilled, row.stack
        )
    };
    spills.then(text).into_iter().collect()
}

/// A block must fit, with the most that it is launched with, and what it works on must be there.
fn shared_memory(row: &Row) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(occupancy) = row.occupancy
        && occupancy.largest.warps == 0
    {
        faults.push(format!(
            "no block of it fits on a multiprocessor, for {}: {} registers, {} + {} bytes of \
             shared memory",
            occupancy.largest.scarce, row.registers, row.static_shared, row.dynamic_shared.largest
        ));
    }
    if row.works_on_shared && row.static_shared == 0 && row.dynamic_shared.largest == 0 {
        faults.push(
            "works on shared memory, and no launch is known to give it any: its operation's \
             shared_memory does not list it"
                .to_owned(),
        );
    }
    faults
}

fn instructions(row: &Row) -> Vec<String> {
    let has =
        |operation: &str| row.mma.contains_key(operation) || row.copies.contains_key(operation);
    let is_there = |expected: &&Expected| match expected {
        Expected::Operation(name) => has(name),
        Expected::WideLoads => row.loads.contains_key(&16),
    };
    expected(row)
        .iter()
        .filter(|expected| !is_there(expected))
        .map(|expected| format!("no {expected}"))
        .collect()
}

fn inner_loop(row: &Row, known: &[Over]) -> Vec<String> {
    let Some(format) = row::decode_name(&row.kernel) else {
        return Vec::new();
    };
    let Some(decode) = row.decode else {
        return vec![format!("no inner loop with mma over weights of {format:?}")];
    };
    let mut faults = Vec::new();
    if let Some(wide) = decode.wide
        && wide < LEAST_WIDE
    {
        faults.push(format!(
            "{:.0} % of its inner loop's bytes come in loads of 16, not {:.0} %",
            100.0 * wide,
            100.0 * LEAST_WIDE
        ));
    }
    faults.extend(over_budget(row, decode, known));
    faults
}

/// No more than half of the budget; where that is known not to hold, no more than was known.
fn over_budget(row: &Row, decode: Decode, known: &[Over]) -> Option<String> {
    let Decode {
        instructions,
        budget,
        ..
    } = decode;
    let recorded = budget::recorded(known, &row.arch, &row.kernel);
    let budget = budget?;
    match (decode.is_over(), recorded) {
        (true, None) => Some(format!(
            "{instructions:.2} warp-instructions per 32 weights are over half of the {budget:.1} \
             that can be issued while they arrive"
        )),
        (true, Some(held)) if instructions > held.instructions + ROUNDING => Some(format!(
            "{instructions:.2} warp-instructions per 32 weights are more than the {:.2} that it \
             took before, and those were over half of {budget:.1}",
            held.instructions
        )),
        (false, Some(_)) => Some(format!(
            "{instructions:.2} warp-instructions per 32 weights are within half of {budget:.1}: \
             strike it off budget::OVER"
        )),
        _ => None,
    }
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

/// By the kernel's name: `…_hopper`; `<op>_<format>_decode`; `<op>_<format>_n<tokens>`, which has
/// a pipeline through shared memory; `attention_prefill…` and `attention_decode…`, likewise.
fn expected(row: &Row) -> &'static [Expected] {
    use Expected::{Operation, WideLoads};
    let name = row.kernel.as_str();
    let is_pipeline = |name: &str| {
        ["matmul_", "moe_"]
            .iter()
            .find_map(|operation| name.strip_prefix(operation))
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
#[path = "planted.rs"]
mod planted;
