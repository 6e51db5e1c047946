//! The evidence as a Markdown page, for people and for the comparison with the committed one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Evidence;
use super::row::{Decode, Row};

/// What stands above the tables.
const HEAD: &str = "\
# What the machine code of the kernels says

Written by `make evidence` from the compiled kernels, and held to them by a test: do not edit. Nothing
here was run on a GPU.

- **regs**: registers of a thread. **local**: bytes that the code stores to and loads from local
  memory (spills), each instruction once, and of stack.
- **shared**: static and dynamic shared memory of a block in bytes; – where the operation does not
  declare its dynamic part, which is then left out of the occupancy.
- **threads**: of a block at most. **warps**: resident on a multiprocessor by registers, shared
  memory and blocks, of as many as it holds (CUDA C++ Programming Guide 13.0, technical
  specifications per compute capability).
- **tensor**, **copies**: tensor core instructions and asynchronous copies to shared memory.
  **loads**: global loads by bytes a thread.
- **per 32**: warp-instructions of a decode matmul's inner loop per 32 weights, and how many an
  H100 can issue while 32 weights arrive (930 G/s, 3.2 TB/s); half of that is the limit on sm_90a,
  the architecture of an H100; what other GPUs can issue is not measured.
";

/// The whole page.
pub fn markdown(evidence: &Evidence) -> String {
    let mut page = format!("{HEAD}\nCompiler: {}\n", evidence.compiler);
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
        or_dash(row.dynamic_shared.map(|bytes| bytes.to_string())),
        or_dash(row.threads.map(|threads| threads.to_string())),
        or_dash(
            row.warps
                .map(|(resident, all)| format!("{resident} of {all}"))
        ),
        counts(&row.mma),
        counts(&row.copies),
        counts(&row.loads),
        or_dash(row.decode.map(
            |Decode {
                 instructions,
                 budget,
             }| format!("{instructions:.2} of {budget:.1}")
        )),
    )
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

    #[test]
    fn counts_read_largest_first() {
        assert_eq!(counts(&BTreeMap::from([(4, 1), (16, 3)])), "3 × 16, 1 × 4");
        assert_eq!(counts::<usize>(&BTreeMap::new()), "");
    }

    #[test]
    fn differences_name_the_lines_of_either_side() {
        assert_eq!(differences("a\nb\nc", "a\nc\nd", 10), ["- b", "+ d"]);
        assert_eq!(differences("a\nb", "c\nd", 1), ["- a"]);
        assert!(differences("a\nb", "a\nb", 9).is_empty());
    }
}
