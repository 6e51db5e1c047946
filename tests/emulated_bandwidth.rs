//! The bandwidth model of the decode kernels: what a launch moves to and from memory, counted on
//! the emulated device behind a small cache, over what it cannot do without. A kernel that reads
//! its weights twice, or in pieces of which most is thrown away, fails here.
//!
//! Shapes are scaled down from a model's, and so is the cache: less than the weights or the
//! cached keys and values, more than the activations.

use onward_emulator::{Build, Copies, Emulator, LaunchCounters, Order};
use onward_kernels::Format;
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::attention::Mask;
use onward_kernels::ops::attention::cases::AttentionCase;
use onward_kernels::ops::embed::cases::EmbedCase;
use onward_kernels::ops::gated::Activation;
use onward_kernels::ops::gated::cases::GatedCase;
use onward_kernels::ops::logits::cases::LogitsCase;
use onward_kernels::ops::matmul::cases::MatmulCase;
use onward_kernels::ops::registry::{Case, Heads, Sequence};
use onward_kernels::ops::rms_norm::cases::RmsNormCase;

/// The modelled cache in bytes.
const CACHE: usize = 1 << 20;
/// Bytes moved over bytes that have to be.
const EXCESS: f64 = 1.05;
/// Sectors that accesses must touch over those that they do.
const COALESCED: f64 = 0.95;

fn device() -> (Emulator, Cuda) {
    let emulator = Emulator::install(Build::Counted).unwrap();
    emulator.set_schedule(Order::Forward, Copies::Lazy);
    emulator.set_cache(CACHE);
    (emulator, Cuda::open(0).unwrap())
}

/// The launches of one run of the case.
fn launches(emulator: &Emulator, cuda: &Cuda, case: &dyn Case<Cuda>) -> Vec<LaunchCounters> {
    let mut prepared = case.prepare(cuda).unwrap();
    // What was launched so far runs now.
    cuda.device().synchronise().unwrap();
    emulator.take_counters();
    prepared.launch(cuda).unwrap();
    prepared.outputs(cuda).unwrap();
    assert_eq!(emulator.take_report(), None, "{case:?}");
    let launches = emulator.take_counters();
    assert!(!launches.is_empty(), "{case:?} launched nothing");
    launches
}

/// What is wrong with the launches of a case that must move `bytes`: nothing or a line each.
fn faults(emulator: &Emulator, launches: &[LaunchCounters], bytes: usize) -> Vec<String> {
    let totals = || launches.iter().map(|launch| launch.totals);
    let moved: u64 = totals().map(|t| t.memory_read + t.memory_written).sum();
    let ratio = moved as f64 / bytes as f64;
    println!("  {ratio:.3} of {bytes} bytes");
    let mut faults = Vec::new();
    if ratio > EXCESS {
        faults.push(format!("moves {moved} bytes, {ratio:.3} of {bytes}"));
    }
    for launch in launches {
        for site in launch.sites.iter().filter(|site| !site.shared) {
            let coalescing = site.traffic.coalescing();
            if coalescing < COALESCED {
                let (kernel, place) = (&launch.kernel, emulator.locate(site));
                faults.push(format!("{kernel}: {coalescing:.2} coalesced at {place}"));
            }
        }
    }
    faults
}

fn assert_lean<C: Case<Cuda>>(cases: impl IntoIterator<Item = C>) {
    let bytes = |case: &C| case.cost().bytes;
    assert_lean_by(cases, bytes);
}

fn assert_lean_by<C: Case<Cuda>>(cases: impl IntoIterator<Item = C>, bytes: impl Fn(&C) -> usize) {
    let (emulator, cuda) = device();
    let mut failures = Vec::new();
    for case in cases {
        println!("{case:?}");
        let launches = launches(&emulator, &cuda, &case);
        for fault in faults(&emulator, &launches, bytes(&case)) {
            failures.push(format!("{case:?}: {fault}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A stack of matrices as wide as a small model's.
fn layer(parts: &[(Format, usize)], n_rows: usize) -> MatmulCase {
    MatmulCase {
        parts: parts.to_vec(),
        cols: 2048,
        n_rows,
        norm: false,
        bias: false,
        soft_cap: None,
        gate: None,
        accumulate: false,
    }
}

#[test]
fn matmul_reads_each_weight_once() {
    let formats = Format::ALL.map(|format| layer(&[(format, 1024)], 1));
    let batch = [Format::Bf16, Format::Q8_0, Format::Q4K].map(|f| layer(&[(f, 1024)], 8));
    let stack = layer(&[(Format::Q4K, 768), (Format::Q6K, 256)], 1);
    let gated = MatmulCase {
        norm: true,
        gate: Some(Activation::Silu),
        ..layer(&[(Format::Q4K, 512), (Format::Q4K, 512)], 1)
    };
    let fused = MatmulCase {
        norm: true,
        bias: true,
        accumulate: true,
        ..layer(&[(Format::Q8_0, 1024)], 1)
    };
    assert_lean(
        formats
            .into_iter()
            .chain(batch)
            .chain([stack, gated, fused]),
    );
}

#[test]
fn logits_read_the_head_once() {
    assert_lean(
        [Format::Bf16, Format::Q8_0, Format::Q6K].map(|format| LogitsCase {
            format,
            vocab: 4096,
            width: 1024,
            n_rows: 1,
            scale: 1.0,
            soft_cap: Some(30.0),
        }),
    );
}

#[test]
fn attention_reads_each_key_and_value_once() {
    let heads = |n_heads, n_kv_heads, head_dim| Heads {
        n_heads,
        n_kv_heads,
        head_dim,
    };
    let case = |heads, cached, mask| AttentionCase {
        heads,
        sequences: vec![Sequence { cached, new: 1 }; 2],
        soft_cap: None,
        mask,
        n_shown: 2,
    };
    let cases = [
        case(heads(8, 2, 128), 2047, Mask::Causal),
        case(heads(4, 4, 64), 2047, Mask::Causal),
        case(heads(4, 1, 256), 1900, Mask::Causal),
        case(heads(8, 2, 128), 2047, Mask::Window(1024)),
    ];
    // Keys and values of 16 bits; queries and outputs of 32.
    assert_lean_by(cases, |case| {
        let seen = |s: &Sequence| match case.mask {
            Mask::Window(n) => n,
            _ => s.cached + 1,
        };
        let cached: usize = case.sequences.iter().map(seen).sum();
        let width = case.heads.n_heads * case.heads.head_dim;
        let kv_width = case.heads.n_kv_heads * case.heads.head_dim;
        2 * 2 * cached * kv_width + 2 * 4 * case.sequences.len() * width
    });
}

#[test]
fn row_by_row_operations_touch_each_value_once() {
    assert_lean([false, true].map(|accumulate| RmsNormCase {
        n_rows: 64,
        width: 2048,
        accumulate,
    }));
    assert_lean([GatedCase {
        n_rows: 64,
        width: 2048,
        activation: Activation::Silu,
    }]);
}

/// The one exception: a row of the table lies in a tile of sixteen, as the head that it often is
/// has to be, so half of each 16-byte access belongs to another row. That is a row a token.
#[test]
fn embed_reads_two_rows_of_a_tile_for_one() {
    let (emulator, cuda) = device();
    for format in [Format::Bf16, Format::Q4K] {
        let case = EmbedCase {
            format,
            vocab: 512,
            width: 2048,
            n_rows: 8,
        };
        let totals = launches(&emulator, &cuda, &case)[0].totals;
        let table = format.row_bytes(case.width).unwrap() * case.n_rows;
        let (read, written) = (totals.memory_read, totals.memory_written);
        let values = size_of::<f32>() * case.width * case.n_rows;
        assert_eq!(written as usize, values, "{case:?}");
        let ratio = read as f64 / table as f64;
        assert!(ratio < 2.1, "{case:?} reads {ratio:.2} of its rows");
    }
}
