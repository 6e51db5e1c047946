//! Nothing is lost on the way of weights into tiles: a product with a column of the identity is a
//! column of the matrix, as `quant` decodes it.
//!
//! One and zeros are exact as activations, and so are the integers in the tensor core. Formats of a
//! scale give the very weight; where a minimum is subtracted, product and minimum are rounded
//! before their difference, as they may be rounded in the definition or not.

use onward_kernels::cuda::Cuda;
use onward_kernels::ops::matmul::Matmul;
use onward_kernels::quant::{dequantise, quantise};
use onward_kernels::{Backend, Format, MatrixSource};
use onward_tests::device::TestDevice;

/// No multiple of a tile's 16 rows.
const ROWS: usize = 40;
/// Three of the longest blocks, and of a tile's steps no multiple of the slices.
const COLS: usize = 768;

/// Weights whose size varies from block to block, with an outlier here and there.
fn values() -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..ROWS * COLS)
        .map(|i| next() * (1.0 + (i / 32 % 11) as f32) + if i % 97 == 0 { 3.0 } else { 0.1 })
        .collect()
}

/// The matrix by products of `n_tokens` columns of the identity at a time.
fn products(cuda: &Cuda, format: Format, data: &[u8], n_tokens: usize) -> Vec<f32> {
    let source = MatrixSource {
        name: "weights",
        format,
        rows: ROWS,
        cols: COLS,
        data,
    };
    let weight = cuda.matrix(&[source]).unwrap();
    let mut matrix = vec![0.0; ROWS * COLS];
    for first in (0..COLS).step_by(n_tokens) {
        let mut identity = vec![0.0; n_tokens * COLS];
        for token in 0..n_tokens {
            identity[token * COLS + first + token] = 1.0;
        }
        let x = cuda.upload(&identity).unwrap();
        let mut out = cuda.buffer(n_tokens * ROWS).unwrap();
        (cuda.matmul(Matmul::new(&x, &weight, n_tokens, &mut out))).unwrap();
        let mut columns = vec![0.0; n_tokens * ROWS];
        (cuda.download(&out, 0..n_tokens * ROWS, &mut columns)).unwrap();
        for token in 0..n_tokens {
            for row in 0..ROWS {
                matrix[row * COLS + first + token] = columns[token * ROWS + row];
            }
        }
    }
    matrix
}

/// Whether a weight of the format is a product alone.
fn has_no_minimum(format: Format) -> bool {
    use Format::{Int4G32, Int4G128, Q4_1, Q4K, Q5_1, Q5K};
    !matches!(format, Q4_1 | Q5_1 | Q4K | Q5K | Int4G32 | Int4G128)
}

#[test]
fn every_weight_is_in_its_place() {
    let cuda = TestDevice::install().open();
    for format in Format::ALL {
        let data = quantise(format, &values()).unwrap();
        let mut expected = vec![0.0; ROWS * COLS];
        dequantise(format, &data, &mut expected).unwrap();
        let largest = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        // Eight columns go through the kernels for few tokens, 64 through those for many.
        for n_tokens in [8, 64] {
            let matrix = products(&cuda, format, &data, n_tokens);
            for (i, (&found, &expected)) in matrix.iter().zip(&expected).enumerate() {
                let (row, col) = (i / COLS, i % COLS);
                let rounding = match has_no_minimum(format) {
                    true => 0.0,
                    // Of product and minimum, each at most twice the largest weight.
                    false => 4.0 * largest * f32::EPSILON,
                };
                assert!(
                    (found - expected).abs() <= rounding,
                    "{format}, {n_tokens} tokens: {found} at [{row}, {col}] for {expected}"
                );
            }
        }
    }
}
