use half::bf16;

use crate::backend::{Backend, MatrixSource};
use crate::cpu::isa::has_avx512_bf16;
use crate::cpu::{Cpu, Isa, Matrix};
use crate::ops::logits::Logits;
use crate::ops::matmul::Matmul;
use crate::quant::{Format, dequantise, quantise};

/// Values between −1 and 1, a different sequence for each seed.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A matrix as bytes of a file and as the numbers that they mean.
struct Weights {
    format: Format,
    rows: usize,
    cols: usize,
    data: Vec<u8>,
    values: Vec<f32>,
}

impl Weights {
    fn new(format: Format, rows: usize, cols: usize) -> Weights {
        // Rows of different magnitude, so that a swapped row or scale shows.
        let mut values = noise(rows * cols, rows as u64);
        for (i, value) in values.iter_mut().enumerate() {
            *value *= 1.0 + (i / 32 % 7) as f32;
        }
        let data = quantise(format, &values).unwrap();
        dequantise(format, &data, &mut values).unwrap();
        Weights {
            format,
            rows,
            cols,
            data,
            values,
        }
    }

    fn source(&self) -> MatrixSource<'_> {
        let Weights {
            format,
            rows,
            cols,
            ref data,
            ..
        } = *self;
        MatrixSource {
            name: "test",
            format,
            rows,
            cols,
            data,
        }
    }

    /// The sums over `x` in f64 and the sums of magnitudes, `[n_tokens][rows]`.
    fn multiply(&self, x: &[f64]) -> Vec<(f64, f64)> {
        let mut sums = Vec::new();
        for x in x.chunks(self.cols) {
            for w in self.values.chunks(self.cols) {
                let products = x.iter().zip(w).map(|(x, &w)| x * f64::from(w));
                let sum = |(sum, total), p: f64| (sum + p, total + p.abs());
                sums.push(products.fold((0.0, 0.0), sum));
            }
        }
        sums
    }
}

/// What the kernels should make of activations: int8 per 32, written down anew.
fn int8_per_32(x: &[f32], cols: usize) -> Vec<f64> {
    let rows = x.chunks(cols).flat_map(|row| row.chunks(32));
    rows.flat_map(|block| {
        let amax = block.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        let scale = amax / 127.0;
        let steps = |x: &f32| f64::from((x * (127.0 / amax)).round_ties_even());
        block
            .iter()
            .map(steps)
            .map(|q| q * f64::from(scale))
            .collect::<Vec<_>>()
    })
    .collect()
}

fn encoded(x: &[f32], cols: usize, format: Format, isa: Isa) -> Vec<f64> {
    match format {
        Format::Bf16 if isa == Isa::Avx512 && has_avx512_bf16() => {
            x.iter().map(|&x| bf16::from_f32(x).to_f64()).collect()
        }
        format if format.is_quantised() => int8_per_32(x, cols),
        _ => x.iter().map(|&x| f64::from(x)).collect(),
    }
}

fn run(cpu: &Cpu, matrix: &Matrix, x: &[f32], n_rows: usize, rows: usize) -> Vec<f32> {
    let x = cpu.upload(x).unwrap();
    let mut out = cpu.upload(&vec![f32::NAN; n_rows * rows + 1]).unwrap();
    let op = Matmul::new(&x, matrix, n_rows, &mut out);
    cpu.matmul(op).unwrap();
    assert!(out[n_rows * rows].is_nan(), "wrote beyond its rows");
    out[..n_rows * rows].to_vec()
}

/// The least columns a format allows, some that are no multiple of a group or of a chunk.
fn some_cols(format: Format) -> [usize; 3] {
    match format.block_len() {
        1 => [1, 37, 600],
        32 => [32, 96, 1568],
        block => [block, 3 * block, 7 * block],
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn sums_are_exact_but_for_float_rounding() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        for format in Format::ALL {
            for cols in some_cols(format) {
                for rows in [1, 33] {
                    let weights = Weights::new(format, rows, cols);
                    let matrix = cpu.matrix(&[weights.source()]).unwrap();
                    let x = noise(64 * cols, 7);
                    for n in [1, 7, 8, 9, 12, 13, 64] {
                        let x = &x[..n * cols];
                        let expected = weights.multiply(&encoded(x, cols, format, isa));
                        let found = run(&cpu, &matrix, x, n, rows);
                        for (i, (found, (sum, total))) in found.iter().zip(expected).enumerate() {
                            let error = (f64::from(*found) - sum).abs();
                            assert!(
                                error <= 2e-6 * total,
                                "{isa:?} {format} {rows}×{cols}, {n} tokens, value {i}: \
                                 {found} instead of {sum}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn quantised_activations_cost_about_half_a_percent() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(1, isa).unwrap();
        for format in Format::ALL {
            let weights = Weights::new(format, 64, 512);
            let matrix = cpu.matrix(&[weights.source()]).unwrap();
            let x = noise(512, 3);
            let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let found = run(&cpu, &matrix, &x, 1, 64);
            let (mut error, mut norm) = (0.0, 0.0);
            for (found, (sum, _)) in found.iter().zip(weights.multiply(&exact)) {
                error += (f64::from(*found) - sum).powi(2);
                norm += sum * sum;
            }
            let relative = (error / norm).sqrt();
            assert!(relative < 0.01, "{isa:?} {format}: {relative}");
        }
    }
}

#[test]
fn bits_depend_on_neither_rows_nor_threads() {
    let (rows, n_tokens) = (200, 300);
    for isa in Isa::available() {
        for format in Format::ALL {
            let cols = 4 * some_cols(format)[2] / format.block_len() * format.block_len();
            let cols = cols.min(1792);
            let weights = Weights::new(format, rows, cols);
            let x = noise(n_tokens * cols, 11);
            let one = Cpu::with_isa(1, isa).unwrap();
            let matrix = one.matrix(&[weights.source()]).unwrap();
            let all = run(&one, &matrix, &x, n_tokens, rows);
            let three = Cpu::with_isa(3, isa).unwrap();
            assert_eq!(
                bits(&run(&three, &matrix, &x, n_tokens, rows)),
                bits(&all),
                "{format}"
            );
            for n in 1..=26 {
                let found = run(&three, &matrix, &x[n * cols..2 * n * cols], n, rows);
                let expected = &all[n * rows..2 * n * rows];
                assert_eq!(bits(&found), bits(expected), "{isa:?} {format}, {n} tokens");
            }
        }
    }
}

#[test]
fn stacked_parts_have_the_bits_of_each_alone() {
    let formats = [
        Format::Q4K,
        Format::Q6K,
        Format::F16,
        Format::Bf16,
        Format::Q8_0,
    ];
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        let parts: Vec<Weights> = (formats.iter().enumerate())
            .map(|(i, &f)| Weights::new(f, 20 + 9 * i, 256))
            .collect();
        let sources: Vec<MatrixSource<'_>> = parts.iter().map(Weights::source).collect();
        let rows: usize = parts.iter().map(|part| part.rows).sum();
        let stack = cpu.matrix(&sources).unwrap();
        for n in [1, 40] {
            let x = noise(n * 256, 5);
            let whole = run(&cpu, &stack, &x, n, rows);
            let mut first = 0;
            for part in &parts {
                let alone = cpu.matrix(&[part.source()]).unwrap();
                let alone = run(&cpu, &alone, &x, n, part.rows);
                for (whole, alone) in whole.chunks(rows).zip(alone.chunks(part.rows)) {
                    assert_eq!(bits(&whole[first..first + part.rows]), bits(alone));
                }
                first += part.rows;
            }
        }
    }
}

#[test]
fn bias_and_residual_are_added() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        for format in [Format::Q4K, Format::Q6K, Format::F32] {
            let (rows, cols) = (35, 1792);
            let weights = Weights::new(format, rows, cols);
            let matrix = cpu.matrix(&[weights.source()]).unwrap();
            for n_rows in [1, 30] {
                let values = noise(n_rows * cols, 2);
                let sums = run(&cpu, &matrix, &values, n_rows, rows);
                let x = cpu.upload(&values).unwrap();
                let bias = cpu.upload(&noise(rows, 8)).unwrap();
                let before = noise(n_rows * rows, 9);
                let mut out = cpu.upload(&before).unwrap();
                cpu.matmul(Matmul {
                    bias: Some(&bias),
                    accumulate: true,
                    ..Matmul::new(&x, &matrix, n_rows, &mut out)
                })
                .unwrap();
                for i in 0..out.len() {
                    let expected = sums[i] + bias[i % rows] + before[i];
                    assert!((out[i] - expected).abs() < 1e-3, "{} {expected}", out[i]);
                }
            }
        }
    }
}

#[test]
fn logits_gather_scale_and_cap() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        let (vocab, width) = (100, 256);
        let weights = Weights::new(Format::Q6K, vocab, width);
        let matrix = cpu.matrix(&[weights.source()]).unwrap();
        let values = noise(5 * width, 4);
        let all = run(&cpu, &matrix, &values, 5, vocab);
        let x = cpu.upload(&values).unwrap();
        let mut out = cpu.buffer(2 * vocab).unwrap();
        for (scale, soft_cap) in [(1.0, None), (0.5, None), (0.25, Some(30.0))] {
            let rows = &[4, 1];
            let out = &mut out;
            cpu.logits(Logits {
                x: &x,
                rows,
                weight: &matrix,
                scale,
                soft_cap,
                out,
            })
            .unwrap();
            for (j, row) in rows.iter().enumerate() {
                for v in 0..vocab {
                    let y = scale * all[row * vocab + v];
                    let y = soft_cap.map_or(y, |cap| cap * (y / cap).tanh());
                    let found = out[j * vocab + v];
                    assert!((found - y).abs() <= 1e-5 * y.abs().max(1.0), "{found} {y}");
                }
            }
        }
    }
}

#[test]
fn broken_scales_and_activations_come_out_as_nan() {
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(2, isa).unwrap();
        for format in Format::ALL {
            let mut weights = Weights::new(format, 3, 256);
            let x = noise(256, 6);
            let row_bytes = weights.data.len() / 3;
            weights.data[row_bytes..2 * row_bytes].fill(0xff);
            let matrix = match cpu.matrix(&[weights.source()]) {
                Ok(matrix) => matrix,
                // Numbers of these are carried to the logits, scales of others refused.
                Err(error) => {
                    assert!(!matches!(format, Format::F32 | Format::F16 | Format::Bf16));
                    assert!(error.to_string().contains("NaN"), "{error}");
                    continue;
                }
            };
            let found = run(&cpu, &matrix, &x, 1, 3);
            assert!(
                found[1].is_nan() && !found[0].is_nan() && !found[2].is_nan(),
                "{format}"
            );
            for broken in [f32::NAN, f32::INFINITY] {
                let mut x = x.clone();
                x[200] = broken;
                let found = run(&cpu, &matrix, &x, 1, 3);
                assert!(
                    found.iter().all(|y| !y.is_finite()),
                    "{isa:?} {format} {found:?}"
                );
            }
        }
    }
}

#[test]
fn wrong_sources_are_errors() {
    let cpu = Cpu::new(1).unwrap();
    let weights = Weights::new(Format::Q4K, 4, 256);
    let good = weights.source();
    for bad in [
        MatrixSource { cols: 128, ..good },
        MatrixSource { rows: 5, ..good },
        MatrixSource {
            rows: 0,
            data: &[],
            ..good
        },
        MatrixSource {
            rows: usize::MAX,
            ..good
        },
        MatrixSource {
            data: &good.data[1..],
            ..good
        },
    ] {
        assert!(cpu.matrix(&[bad]).is_err());
    }
    let narrow = Weights::new(Format::Q8_0, 4, 32);
    assert!(cpu.matrix(&[good, narrow.source()]).is_err());
}
