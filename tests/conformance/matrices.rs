//! `mma.sync.m16n8k16` against the product of matrices.

use half::{bf16, f16};

use crate::{noise, run};

const ROWS: usize = 16;
const COLUMNS: usize = 8;
const DEPTH: usize = 16;

/// d = a · b + c.
struct Product {
    a: [[f32; DEPTH]; ROWS],
    b: [[f32; COLUMNS]; DEPTH],
    c: [[f32; COLUMNS]; ROWS],
}

impl Product {
    /// From functions of (row, column).
    fn new(
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
        c: impl Fn(usize, usize) -> f32,
    ) -> Self {
        Self {
            a: std::array::from_fn(|row| std::array::from_fn(|k| a(row, k))),
            b: std::array::from_fn(|k| std::array::from_fn(|column| b(k, column))),
            c: std::array::from_fn(|row| std::array::from_fn(|column| c(row, column))),
        }
    }

    /// The exact result and the sum of magnitudes, by definition.
    fn expected(&self, row: usize, column: usize) -> (f64, f64) {
        let start = f64::from(self.c[row][column]);
        (0..DEPTH).fold((start, start.abs()), |(sum, magnitude), k| {
            let product = f64::from(self.a[row][k]) * f64::from(self.b[k][column]);
            (sum + product, magnitude + product.abs())
        })
    }

    /// What the instruction makes of it, operands encoded by `half`.
    fn run(&self, kernel: &'static str, half: Encode) -> [[f32; COLUMNS]; ROWS] {
        let pair = |low: f32, high: f32| u32::from(half(low)) | u32::from(half(high)) << 16;
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        for lane in 0..32 {
            // PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
            let (group, thread) = (lane / 4, lane % 4);
            for register in 0..4 {
                // a0, a1, a4 and a5 are of the upper rows; a4 to a7 of the right columns.
                let row = if register % 2 == 0 { group } else { group + 8 };
                let k = thread * 2 + if register < 2 { 0 } else { 8 };
                a.push(pair(self.a[row][k], self.a[row][k + 1]));
                let row = if register < 2 { group } else { group + 8 };
                c.push(self.c[row][thread * 2 + register % 2].to_bits());
            }
            for register in 0..2 {
                let k = thread * 2 + register * 8;
                b.push(pair(self.b[k][group], self.b[k + 1][group]));
            }
        }
        let out = run(kernel, [&a, &b, &c]);
        std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                let lane = row % 8 * 4 + column / 2;
                f32::from_bits(out[lane * 4 + row / 8 * 2 + column % 2])
            })
        })
    }
}

fn encode_bf16(value: f32) -> u16 {
    bf16::from_f32(value).to_bits()
}

fn encode_f16(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

/// To the bits of a 16-bit format.
type Encode = fn(f32) -> u16;

const KERNELS: [(&str, Encode); 2] = [
    ("conformance_mma_bf16", encode_bf16),
    ("conformance_mma_f16", encode_f16),
];

fn assert_exact(product: &Product, kernel: &'static str, half: Encode) {
    let found = product.run(kernel, half);
    for (row, values) in found.iter().enumerate() {
        for (column, &value) in values.iter().enumerate() {
            let (expected, _) = product.expected(row, column);
            assert_eq!(
                f64::from(value),
                expected,
                "{kernel}: row {row}, column {column}"
            );
        }
    }
}

/// Small integers, all different places of the operands told apart.
pub(crate) fn mma_multiplies_exactly_what_is_exact() {
    for (kernel, half) in KERNELS {
        let numbers = Product::new(
            |row, k| (row * 7 + k * 3) as f32 % 31.0 - 15.0,
            |k, column| (k * 5 + column * 11) as f32 % 29.0 - 14.0,
            |row, column| (row * 100 + column) as f32,
        );
        assert_exact(&numbers, kernel, half);
        // One element of either operand at a time reaches one row or column alone.
        for place in 0..16 {
            let one = Product::new(
                |row, k| f32::from(u8::from((row + k) % 16 == place)),
                |k, column| (k * 8 + column) as f32,
                |_, _| 0.0,
            );
            assert_exact(&one, kernel, half);
        }
    }
}

/// The integers 0 to 63 as f16 subnormals, q · 2⁻²⁴: flushed to zero they would be lost.
pub(crate) fn mma_takes_f16_subnormals_as_they_are() {
    let scale = 2f32.powi(-24);
    let subnormals = Product::new(
        |row, k| (row * 16 + k) as f32 % 64.0 * scale,
        |k, column| (k * 3 + column) as f32 - 12.0,
        |_, _| 0.0,
    );
    assert_exact(&subnormals, "conformance_mma_f16", encode_f16);
    // In the other operand, and in both.
    let right = Product::new(
        |row, k| (row + 2 * k) as f32 - 20.0,
        |k, column| (k * 8 + column) as f32 % 64.0 * scale,
        |_, _| 0.0,
    );
    assert_exact(&right, "conformance_mma_f16", encode_f16);
    let both = Product::new(
        |row, k| (row + k) as f32 * scale,
        |k, column| (k + column) as f32 * scale,
        |_, _| 0.0,
    );
    assert_exact(&both, "conformance_mma_f16", encode_f16);
}

/// Sums of 17 numbers. A tensor core aligns the products with the largest one and cuts off bits
/// below the 24th or so: each of the 17 is off by at most 2⁻²³ of the largest magnitude, and the
/// result is rounded once more.
pub(crate) fn mma_rounds_sums_no_worse_than_single_precision() {
    const BOUND: f64 = 18.0 / (1 << 23) as f64;
    let values = noise(1, 1024);
    let value = |index: usize| (values[index % values.len()] >> 8) as f32 / (1 << 22) as f32 - 2.0;
    for (kernel, half) in KERNELS {
        let decode = |x: f32| match kernel {
            "conformance_mma_bf16" => bf16::from_f32(x).to_f32(),
            _ => f16::from_f32(x).to_f32(),
        };
        let product = Product::new(
            |row, k| decode(value(row * 16 + k)),
            |k, column| decode(value(300 + k * 8 + column)),
            |row, column| value(600 + row * 8 + column),
        );
        let found = product.run(kernel, half);
        for (row, values) in found.iter().enumerate() {
            for (column, &value) in values.iter().enumerate() {
                let (expected, magnitude) = product.expected(row, column);
                let error = (f64::from(value) - expected).abs();
                assert!(
                    error <= BOUND * magnitude,
                    "{kernel}: row {row}, column {column} is {value}, not {expected}"
                );
            }
        }
    }
}
