//! `cp.async` against its definition.

use crate::{noise, run};

/// Of the source as many bytes are read as the size says; the rest of the destination is zero.
pub(crate) fn cp_async_copies_and_fills_with_zeros() {
    for (kernel, n_words) in [
        ("conformance_cp_async_16", 4),
        ("conformance_cp_async_4", 1),
    ] {
        let words = noise(3, 128 * n_words);
        let n_bytes: Vec<u32> = (0..128)
            .map(|thread| thread % (n_words as u32 * 4 + 1))
            .collect();
        let found = run(kernel, [&words, &n_bytes, &[]]);
        for (thread, found) in found.chunks(n_words).enumerate() {
            // What the neighbour copied.
            let source = thread ^ 1;
            let bytes: Vec<u8> = words[source * n_words..][..n_words]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .enumerate()
                .map(|(at, byte)| {
                    if at < n_bytes[source] as usize {
                        byte
                    } else {
                        0
                    }
                })
                .collect();
            let found: Vec<u8> = found.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(found, bytes, "{kernel}: {} bytes", n_bytes[source]);
        }
    }
}

/// Groups end in the order of their commits.
pub(crate) fn cp_async_wait_leaves_at_most_so_many_groups() {
    let words = noise(4, 384);
    assert_eq!(
        run("conformance_cp_async_groups", [&words, &[], &[]]),
        words
    );
}

/// PTX ISA, "cp.async.bulk": the bytes are counted by the barrier's phase, whose parity changes with
/// each.
pub(crate) fn bulk_copies_are_counted_by_the_barrier() {
    let words = noise(5, 512);
    let neighbours: Vec<u32> = (0..512).map(|at| words[at ^ 1]).collect();
    let found = run("conformance_copy_bulk", [&words, &[], &[]]);
    assert_eq!(found, neighbours);
}
