//! `ldmatrix` against its definition.

use crate::{noise, run};

/// PTX ISA, "ldmatrix": matrix i has its rows at the addresses of lanes 8i to 8i + 7, and lane
/// l gets of it elements 2 (l % 4) and the next of row l / 4; transposed, of column l / 4.
pub(crate) fn ldmatrix_hands_out_rows() {
    let words = noise(2, 128);
    let half =
        |row: usize, column: usize| words[row * 4 + column / 2] >> (column % 2 * 16) & 0xffff;
    // Addresses in no order, some of them twice.
    let rows: Vec<u32> = (0..32).map(|lane| lane * lane * 5 % 32).collect();
    for (kernel, n_matrices, transposed) in [
        ("conformance_ldmatrix_x4", 4, false),
        ("conformance_ldmatrix_x4_trans", 4, true),
        ("conformance_ldmatrix_x2", 2, false),
    ] {
        let found = run(kernel, [&words, &rows, &[]]);
        for lane in 0..32 {
            for matrix in 0..n_matrices {
                let element = |index: usize| {
                    let (row, column) = (lane / 4, lane % 4 * 2 + index);
                    let (row, column) = if transposed {
                        (column, row)
                    } else {
                        (row, column)
                    };
                    half(rows[matrix * 8 + row] as usize, column)
                };
                let expected = element(0) | element(1) << 16;
                let word = found[lane * n_matrices + matrix];
                assert_eq!(word, expected, "{kernel}: matrix {matrix} of lane {lane}");
            }
        }
    }
}
