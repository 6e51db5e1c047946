//! The evidence as a Markdown page, for people and for the comparison with the committed one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::row::{Decode, DynamicShared, Occupancy, Row};
use super::{Evidence, budget};

/// What stands above the tables.
const HEAD: &str = "\
# What the machine code of the kernels says

Written by `make evidence` from the compiled kernels, and held to them by a test: do not edit. Nothing
here was run on a GPU.

- **regs**: registers of a thread. **local**: bytes that the code stores to and loads from local
  memory (spills), each instruction once, and of stack.
- **shared**: static and dynamic shared memory of a block in bytes. The dynamic part is what the
  kernel is launched with, usually … at most, by the functions that its launches call; a matmul of
  few tokens usually has one token and a matrix of 4096 rows and columns.
- **threads**: of a block at most. **warps**: resident on a multiprocessor, of as many as it holds,
  and what keeps it from holding more: warps, blocks, registers or shared memory (CUDA C++
  Programming Guide 13.0, technical specifications per compute capability); with the usual shared
  memory … with the most, where that makes a difference.
- **tensor**, **copies**: tensor core instructions and asynchronous copies to shared memory.
  **loads**: global loads by bytes a thread.
- **per 32**: warp-instructions of a decode matmul's inner loop per 32 weights, and how many a GPU
  of the architecture can issue while 32 weights arrive, by its published figures. Half of that is
  the limit.
";

/// The whole page.
pub fn markdown(evidence: &Evidence) -> String {
    let mut page = format!("{HEAD}\nCompiler: {}\n", evidence.compiler);
    page.push_str(&budgets(&evidence.rows));
    for rows in evidence.rows.chunk_by(|a, b| a.module == b.module) {
        let _ = write!(
            page,
            "\n## {}\n\n\
             | kernel | arch | regs | local | shared | threads | warps | tensor | copies | loads | per 32 |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n",
            rows[0].module
        );
        for row in rows {
            let _ = writeln!(page, "{}", line(row));
        }
    }
    page
}

/// What the GPUs can issue, and the kernels that take more than half of it.
fn budgets(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n| arch | GPU | 10⁹ warp-instructions/s | GB/s | over half of it |\n|---|---|---|---|---|\n",
    );
    for gpu in budget::GPUS {
        let mut built = rows.iter().filter(|row| row.arch == gpu.arch).peekable();
        let none = if built.peek().is_some() {
            "none"
        } else {
            "–"
        };
        let over = built.filter(|row| row.decode.is_some_and(|decode| decode.is_over()));
        let names: Vec<&str> = over.map(|row| row.kernel.as_str()).collect();
        let names = match names.is_empty() {
            true => none.to_owned(),
            false => names.join(", "),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {names} |",
            gpu.arch,
            gpu.name,
            gpu.issue_rate(),
            gpu.memory_rate()
        );
    }
    text
}

fn line(row: &Row) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    format!(
        "| {} | {} | {} | {} + {} | {} + {} | {} | {} | {} | {} | {} | {} |",
        row.kernel,
        row.arch,
        row.registers,
        row.spilled,
        row.stack,
        row.static_shared,
        dynamic(row.dynamic_shared),
        or_dash(row.threads.map(|threads| threads.to_string())),
        or_dash(row.occupancy.map(resident)),
        counts(&row.mma),
        counts(&row.copies),
        counts(&row.loads),
        or_dash(row.decode.map(per_32)),
    )
}

/// "1024", "1024 … 4096".
fn dynamic(bytes: DynamicShared) -> String {
    let DynamicShared { typical, largest } = bytes;
    match typical == largest {
        true => typical.to_string(),
        false => format!("{typical} … {largest}"),
    }
}

/// "48 of 64, registers", "48 of 64, registers … 24, shared".
fn resident(occupancy: Occupancy) -> String {
    let Occupancy {
        typical,
        largest,
        all,
    } = occupancy;
    let usual = format!("{} of {all}, {}", typical.warps, typical.scarce);
    match typical == largest {
        true => usual,
        false => format!("{usual} … {}, {}", largest.warps, largest.scarce),
    }
}

/// "2.34 of 5.2"; of those over half of the budget "2.34 of 2.5, over half".
fn per_32(decode: Decode) -> String {
    let instructions = decode.instructions;
    match decode.budget {
        None => format!("{instructions:.2}"),
        Some(budget) if instructions > budget => {
            format!("{instructions:.2} of {budget:.1}, over all")
        }
        Some(budget) if decode.is_over() => format!("{instructions:.2} of {budget:.1}, over half"),
        Some(budget) => format!("{instructions:.2} of {budget:.1}"),
    }
}

/// "HMMA 32, IMMA 4"; for loads "16: 4, 4: 1".
fn counts<K: std::fmt::Display>(counts: &BTreeMap<K, usize>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .rev()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    parts.join(", ")
}

/// The lines that differ between two pages, at most `limit`: `-` is the committed one.
pub fn differences(committed: &str, fresh: &str, limit: usize) -> Vec<String> {
    let missing_in = |page: &str, other: &str, sign: char| -> Vec<String> {
        let others: std::collections::HashSet<&str> = other.lines().collect();
        page.lines()
            .filter(|line| !others.contains(line))
            .map(|line| format!("{sign} {line}"))
            .collect()
    };
    let mut found = missing_in(committed, fresh, '-');
    found.extend(missing_in(fresh, committed, '+'));
    found.truncate(limit);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::occupancy::{Residency, Scarce};

    #[test]
    fn counts_read_largest_first() {
        assert_eq!(counts(&BTreeMap::from([(4, 1), (16, 3)])), "3 × 16, 1 × 4");
        assert_eq!(counts::<usize>(&BTreeMap::new()), "");
    }

    #[test]
    fn a_range_is_written_where_launches_differ() {
        let held = |warps, scarce| Residency { warps, scarce };
        let (many, few) = (held(48, Scarce::Registers), held(24, Scarce::Shared));
        let occupancy = |largest| Occupancy {
            typical: many,
            largest,
            all: 64,
        };
        assert_eq!(resident(occupancy(many)), "48 of 64, registers");
        let both = "48 of 64, registers … 24, shared";
        assert_eq!(resident(occupancy(few)), both);
        let bytes = |typical, largest| DynamicShared { typical, largest };
        assert_eq!(dynamic(bytes(1024, 1024)), "1024");
        assert_eq!(dynamic(bytes(1024, 4096)), "1024 … 4096");
    }

    #[test]
    fn what_is_over_the_budget_is_marked() {
        let decode = |instructions, budget| Decode {
            instructions,
            budget,
            wide: None,
        };
        for (instructions, expected) in [
            (2.5, "2.50 of 5.0"),
            (2.51, "2.51 of 5.0, over half"),
            (5.01, "5.01 of 5.0, over all"),
        ] {
            assert_eq!(per_32(decode(instructions, Some(5.0))), expected);
        }
        assert_eq!(per_32(decode(2.5, None)), "2.50");
    }

    #[test]
    fn differences_name_the_lines_of_either_side() {
        assert_eq!(differences("a\nb\nc", "a\nc\nd", 10), ["- b", "+ d"]);
        assert_eq!(differences("a\nb", "c\nd", 1), ["- a"]);
        assert!(differences("a\nb", "a\nb", 9).is_empty());
    }
}
