//! Nothing is lost on the way of weights into tiles: a product with a column of the identity is a
//! column of the matrix, as `quant` decodes it.
//!
//! One and zeros are exact as activations, and so are the integers in the tensor core. Formats of a
//! scale give the very weight; where a minimum is subtracted, product and minimum are rounded
//! before their difference, as they may be rounded in the definition or not.

use onward_kernels::cuda::Cuda;
use onward_kernels::ops::embed::Embed;
use onward_kernels::ops::matmul::Matmul;
use onward_kernels::quant::{dequantise, quantise};
use onward_kernels::{Backend, Batch, Cpu, Error, Format, MatrixSource, Reference};
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

/// A matrix of 40 rows without numbers in its last block, beside one with them, as `backend` takes
/// it.
fn refusal<B: Backend>(backend: &B, format: Format, at: usize, bytes: &[u8]) -> Result<(), Error> {
    let sound = quantise(format, &values()).unwrap();
    let mut data = sound.clone();
    let block = data.len() - format.block_bytes();
    data[block + at..][..bytes.len()].copy_from_slice(bytes);
    let source = |name, data| MatrixSource {
        name,
        format,
        rows: ROWS,
        cols: COLS,
        data,
    };
    let sources = |data| vec![source("sound", &sound), source("second", data)];
    backend.matrix(&sources(&sound))?;
    let said = backend.experts(&[sources(&sound), sources(&data)]).err();
    let matrix = backend.matrix(&sources(&data)).err();
    assert_eq!(
        said.map(|error| error.to_string()),
        matrix.as_ref().map(Error::to_string),
        "{format} of experts and of a matrix"
    );
    matrix.map_or(Ok(()), Err)
}

#[test]
fn no_backend_takes_blocks_without_numbers() {
    let cuda = TestDevice::install().open();
    let (cpu, reference) = (Cpu::new(2).unwrap(), Reference::new());
    for (format, at, bytes, what) in [
        (Format::F8E4M3, 0, &[0x7f][..], "a weight that is NaN"),
        (Format::F8E4M3, 0, &[0xff], "a weight that is NaN"),
        (Format::Mxfp4, 0, &[255], "a scale that is NaN"),
        (
            Format::Q8_0,
            0,
            &[0, 0xfc],
            "a scale that is infinite or NaN",
        ),
        (
            Format::Q5K,
            2,
            &[1, 0x7c],
            "a scale that is infinite or NaN",
        ),
        (
            Format::Int4G128,
            0,
            &[0, 0x7e],
            "a scale that is infinite or NaN",
        ),
    ] {
        let said = format!("tensor second: its {format} data hold {what}");
        for (name, refused) in [
            (cuda.name(), refusal(&cuda, format, at, bytes)),
            (cpu.name(), refusal(&cpu, format, at, bytes)),
            (reference.name(), refusal(&reference, format, at, bytes)),
        ] {
            let error = refused.expect_err(name);
            assert!(matches!(error, Error::Weight { .. }), "{name}: {error:?}");
            assert_eq!(error.to_string(), said, "{name}");
        }
    }
}

/// Weights of 6 under 2^−127 and 2^−126: their products with 2^100, and what an embedding has.
fn least_mxfp4<B: Backend>(backend: &B) -> ([f32; 2], [f32; 64]) {
    let mut data = [0x77; 34];
    (data[0], data[17]) = (0, 1);
    let source = MatrixSource {
        name: "least",
        format: Format::Mxfp4,
        rows: 2,
        cols: 32,
        data: &data,
    };
    let weight = backend.matrix(&[source]).unwrap();
    let mut input = [0.0; 32];
    input[5] = 100.0_f32.exp2();
    let x = backend.upload(&input).unwrap();
    let mut out = backend.buffer(2).unwrap();
    (backend.matmul(Matmul::new(&x, &weight, 1, &mut out))).unwrap();
    let (mut products, mut rows) = ([0.0; 2], [0.0; 64]);
    backend.download(&out, 0..2, &mut products).unwrap();
    let mut out = backend.buffer(64).unwrap();
    let mut batch = Batch::default();
    batch.push(&[0, 1], 0, &[0]);
    let embed = Embed {
        batch: &batch,
        table: &weight,
        scale: 1.0,
        out: &mut out,
    };
    backend.embed(embed).unwrap();
    backend.download(&out, 0..64, &mut rows).unwrap();
    (products, rows)
}

/// As the format's description has it: exact, but that products on a GPU take the least scale
/// for zero.
#[test]
fn the_least_scale_of_mxfp4_is_zero_in_products_on_a_gpu_alone() {
    let weights = [6.0 * (-127.0_f32).exp2(), 6.0 * (-126.0_f32).exp2()];
    let products = weights.map(|weight| weight * 100.0_f32.exp2());
    let cuda = TestDevice::install().open();
    for (name, exact, (found, rows)) in [
        ("cuda", false, least_mxfp4(&cuda)),
        ("cpu", true, least_mxfp4(&Cpu::new(1).unwrap())),
        ("reference", true, least_mxfp4(&Reference::new())),
    ] {
        let first = if exact { products[0] } else { 0.0 };
        assert_eq!(found, [first, products[1]], "{name}");
        assert!(rows[..32].iter().all(|&w| w == weights[0]), "{name}");
        assert!(rows[32..].iter().all(|&w| w == weights[1]), "{name}");
    }
}
