//! The CPU matmul at the shapes of real models: `cargo bench -p onward-bench --bench matmul`.
//!
//! Decoding is measured in bytes of weights a second, over more weights than any cache holds,
//! beside a probe that reads as many bytes with as many threads: memory bandwidth moves with
//! the machine's load, so only the two together say something. Prefill of 512 tokens is measured
//! in operations a second, two for each weight and token. `ONWARD_THREADS` sets the threads
//! (default: the physical cores).

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use onward_kernels::cpu::{Buffer, Matrix, Pool};
use onward_kernels::ops::matmul::Matmul;
use onward_kernels::quant::quantise;
use onward_kernels::{Backend, Cpu, Format, MatrixSource};

/// Format, rows, columns, and whose layer it is.
const SHAPES: [(Format, usize, usize, &str); 8] = [
    (Format::Q4K, 8960, 1536, "Qwen 1.5B gate"),
    (Format::Q6K, 1536, 8960, "Qwen 1.5B down"),
    (Format::Q5_0, 4864, 896, "Qwen 0.5B gate"),
    (Format::Q8_0, 4864, 896, "Qwen 0.5B head, a part"),
    (Format::Q6K, 896, 4864, "Qwen 0.5B down"),
    (Format::Q5_0, 2048, 640, "Gemma 270M gate"),
    (Format::Q4K, 640, 2048, "Gemma 270M down"),
    (Format::Bf16, 4864, 896, "unquantised"),
];

/// Weights to stream in a decoding measurement; several times the last cache.
const STREAM_BYTES: usize = 256 << 20;
const PREFILL_TOKENS: usize = 512;

fn threads() -> usize {
    let set = std::env::var("ONWARD_THREADS").ok();
    set.and_then(|n| n.parse().ok())
        .unwrap_or_else(num_cpus::get_physical)
}

/// Values that no cache or multiplier finds easy, between −1 and 1.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn matrix(cpu: &Cpu, (format, rows, cols, name): (Format, usize, usize, &str)) -> Matrix {
    let data = quantise(format, &noise(rows * cols)).expect("whole blocks");
    let source = MatrixSource {
        name,
        format,
        rows,
        cols,
        data: &data,
    };
    cpu.matrix(&[source]).expect("a sound matrix")
}

fn multiply(cpu: &Cpu, weight: &Matrix, x: &Buffer, n_rows: usize, out: &mut Buffer) {
    let op = Matmul::new(x, weight, n_rows, out);
    cpu.matmul(op).expect("matching shapes");
}

/// Reads each thread's share of `data` once.
fn read_all(pool: &Pool, data: &[f32]) {
    let share = data.len() / pool.n_threads();
    pool.run(|worker| {
        let mut sums = [0u32; 64];
        for line in data[worker * share..][..share].as_chunks::<64>().0 {
            for (sum, x) in sums.iter_mut().zip(line) {
                *sum ^= x.to_bits();
            }
        }
        black_box(sums);
    });
}

fn decode(c: &mut Criterion) {
    let cpu = Cpu::new(threads()).expect("threads");
    let pool = Pool::new(threads()).expect("threads");
    let probe = cpu.upload(&vec![1.0; STREAM_BYTES / 4]).expect("memory");
    for shape in SHAPES {
        let (format, rows, cols, _) = shape;
        let first = matrix(&cpu, shape);
        let copies = (STREAM_BYTES / cpu.matrix_bytes(&first)).max(1);
        let matrices: Vec<Matrix> = (0..copies).map(|_| matrix(&cpu, shape)).collect();
        let bytes: usize = matrices.iter().map(|m| cpu.matrix_bytes(m)).sum();

        let mut group = c.benchmark_group(format!("decode {format} {rows}x{cols}"));
        group.throughput(Throughput::Bytes(STREAM_BYTES as u64));
        group.bench_function("read probe", |b| b.iter(|| read_all(&pool, &probe)));
        group.throughput(Throughput::Bytes(bytes as u64));
        for n_tokens in [1, 8] {
            let x = cpu.upload(&noise(n_tokens * cols)).expect("memory");
            let mut out = cpu.buffer(n_tokens * rows).expect("memory");
            group.bench_function(BenchmarkId::new("tokens", n_tokens), |b| {
                b.iter(|| {
                    for weight in &matrices {
                        multiply(&cpu, weight, &x, n_tokens, &mut out);
                    }
                });
            });
        }
    }
}

fn prefill(c: &mut Criterion) {
    let cpu = Cpu::new(threads()).expect("threads");
    for shape in SHAPES {
        let (format, rows, cols, _) = shape;
        let weight = matrix(&cpu, shape);
        let x = cpu.upload(&noise(PREFILL_TOKENS * cols)).expect("memory");
        let mut out = cpu.buffer(PREFILL_TOKENS * rows).expect("memory");
        let mut group = c.benchmark_group("prefill of 512");
        group.throughput(Throughput::Elements(
            (2 * rows * cols * PREFILL_TOKENS) as u64,
        ));
        group.bench_function(format!("{format} {rows}x{cols}"), |b| {
            b.iter(|| multiply(&cpu, &weight, &x, PREFILL_TOKENS, &mut out));
        });
    }
}

/// Re-tiling a matrix of a file, by bytes of the file.
fn load(c: &mut Criterion) {
    let cpu = Cpu::new(threads()).expect("threads");
    let mut group = c.benchmark_group("load");
    for (format, rows, cols, name) in SHAPES {
        let data = quantise(format, &noise(rows * cols)).expect("whole blocks");
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(format!("{format} {rows}x{cols}"), |b| {
            let source = MatrixSource {
                name,
                format,
                rows,
                cols,
                data: &data,
            };
            b.iter(|| cpu.matrix(&[source]).expect("a sound matrix"));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = decode, prefill, load
}
criterion_main!(benches);
