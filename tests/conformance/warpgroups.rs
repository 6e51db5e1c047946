//! `wgmma` against the product of matrices, with the operands in each of the layouts that kernels
//! use.

use half::{bf16, f16};

use crate::run;

const ROWS: usize = 64;
const DEPTH: usize = 16;

/// The kernels, their columns, and whether they take f16.
const KERNELS: [(&str, usize, bool); 10] = [
    ("conformance_warpgroup_bf16_n32", 32, false),
    ("conformance_warpgroup_bf16_n64", 64, false),
    ("conformance_warpgroup_f16_n64", 64, true),
    ("conformance_warpgroup_bf16_n128", 128, false),
    ("conformance_warpgroup_f16_n128", 128, true),
    ("conformance_warpgroup_bf16_columns_n64", 64, false),
    ("conformance_warpgroup_bf16_columns_n96", 96, false),
    ("conformance_warpgroup_bf16_columns_n128", 128, false),
    ("conformance_warpgroup_shared_128", 32, false),
    ("conformance_warpgroup_shared_64", 32, false),
];

/// A matrix by its element (row, column).
type Matrix<'a> = &'a dyn Fn(usize, usize) -> f32;

/// Rows of 16 halves, two a word, the first one low.
fn words(rows: usize, matrix: Matrix<'_>, is_f16: bool) -> Vec<u32> {
    let half = |value: f32| match is_f16 {
        true => f16::from_f32(value).to_bits(),
        false => bf16::from_f32(value).to_bits(),
    };
    let pair = |i: usize| {
        let (row, k) = (i / 8, i % 8 * 2);
        u32::from(half(matrix(row, k))) | u32::from(half(matrix(row, k + 1))) << 16
    };
    (0..rows * DEPTH / 2).map(pair).collect()
}

/// PTX ISA, "Register fragments and shared memory matrix layouts": row and column of accumulator
/// `i` of a thread.
fn place(thread: usize, i: usize) -> (usize, usize) {
    let (warp, lane) = (thread / 32, thread % 32);
    let row = warp * 16 + lane / 4 + i / 2 % 2 * 8;
    (row, i / 4 * 8 + lane % 4 * 2 + i % 2)
}

/// d = a · bᵀ + c and a · bᵀ, all exact: `b` has the columns of the other operand as its rows.
fn assert_exact(kernel: &'static str, columns: usize, is_f16: bool, [a, b, c]: [Matrix<'_>; 3]) {
    let per_thread = columns / 2;
    let accumulators = (0..128 * per_thread).map(|at| {
        let (row, column) = place(at / per_thread, at % per_thread);
        c(row, column).to_bits()
    });
    let accumulators: Vec<u32> = accumulators.collect();
    let found = run(
        kernel,
        [
            &words(ROWS, a, is_f16),
            &words(columns, b, is_f16),
            &accumulators,
        ],
    );
    for (at, &word) in found.iter().enumerate() {
        let (turn, rest) = (at / accumulators.len(), at % accumulators.len());
        let (row, column) = place(rest / per_thread, rest % per_thread);
        let start = if turn == 0 { c(row, column) } else { 0.0 };
        let products = (0..DEPTH).map(|k| f64::from(a(row, k)) * f64::from(b(column, k)));
        let expected = f64::from(start) + products.sum::<f64>();
        let found = f64::from(f32::from_bits(word));
        assert_eq!(
            found, expected,
            "{kernel}, turn {turn}: row {row}, column {column}"
        );
    }
}

/// Small integers, all different places of the operands told apart.
pub(crate) fn products_are_exact_where_they_can_be() {
    for (kernel, columns, is_f16) in KERNELS {
        let c = |row: usize, column: usize| (row * 200 + column) as f32;
        assert_exact(
            kernel,
            columns,
            is_f16,
            [
                &|row, k| (row * 7 + k * 3) as f32 % 31.0 - 15.0,
                &|column, k| (k * 5 + column * 11) as f32 % 29.0 - 14.0,
                &c,
            ],
        );
        // One element of a row at a time: what it meets tells its place.
        for place in [0, 1, 7, 8, 15] {
            assert_exact(
                kernel,
                columns,
                is_f16,
                [
                    &|row, k| f32::from(u8::from((row + k) % 16 == place)),
                    &|column, k| (k * 16 + column % 16) as f32 - (column / 16) as f32,
                    &|_, _| 0.0,
                ],
            );
        }
    }
}
