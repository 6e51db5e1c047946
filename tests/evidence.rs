//! What the machine code of every kernel must say, and that the committed table says it.
//!
//! The table is that of the pinned compiler and the default architectures; a build with others is held
//! to the rules alone.

use std::path::Path;

use onward_bench::evidence::{self, budget, rules, table};
use onward_kernels::cuda;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/EVIDENCE.md");

#[test]
fn the_machine_code_is_as_the_kernels_promise_and_as_the_committed_table_says() {
    let evidence = evidence::gather().expect("the kernels can be read");
    assert!(!evidence.rows.is_empty(), "no kernel is embedded");

    let faults: Vec<String> = evidence.rows.iter().flat_map(rules::faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    if evidence.has_all_architectures() {
        let unknown = rules::unknown(&evidence.rows, &budget::OVER, cuda::shared_memory());
        assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    }

    if !evidence.is_comparable() {
        println!("not the compiler and the architectures of {TABLE}: not compared");
        return;
    }
    let committed = std::fs::read_to_string(Path::new(TABLE)).unwrap_or_default();
    let differences = table::differences(&committed, &table::markdown(&evidence), 20);
    assert!(
        differences.is_empty(),
        "kernels/EVIDENCE.md is not of these kernels; `make evidence` writes it anew:\n{}",
        differences.join("\n")
    );
}
