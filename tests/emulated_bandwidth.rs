//! The bandwidth model of the decode kernels: what a launch moves to and from memory, counted on
//! the emulated device behind a small cache, over what it cannot do without. A kernel that reads
//! its weights twice, or in pieces of which most is thrown away, fails here.
//!
//! Shapes are scaled down from a model's, and so is the cache: less than the weights or the
//! cached keys and values, more than the activations.

use onward_emulator::{Build, Copies, Emulator, LaunchCounters, Order};
use onward_kernels::Format;
use onward_kernels::cuda::Cuda;
use onward_kernels::ops::attend::cases::AttendCase;
use onward_kernels::ops::attention::Mask;
use onward_kernels::ops::attention::cases::AttentionCase;
use onward_kernels::ops::embed::cases::EmbedCase;
use onward_kernels::ops::gated::Activation;
use onward_kernels::ops::gated::cases::GatedCase;
use onward_kernels::ops::logits::cases::LogitsCase;
use onward_kernels::ops::matmul::cases::MatmulCase;
use onward_kernels::ops::moe_combine::cases::MoeCombineCase;
use onward_kernels::ops::moe_matmul::Input;
use onward_kernels::ops::moe_matmul::cases::{Load, MoeMatmulCase};
use onward_kernels::ops::moe_route::cases::MoeRouteCase;
use onward_kernels::ops::moe_route::{GroupScore, Groups, Routing, Scoring};
use onward_kernels::ops::registry::{Case, Heads, Sequence};
use onward_kernels::ops::rms_norm::cases::RmsNormCase;
use onward_kernels::ops::rope_append::RopePairs;
use onward_kernels::ops::rope_append::cases::{RopeAppendCase, Rotation};

/// The modelled cache in bytes.
const CACHE: usize = 1 << 20;
/// Bytes moved over bytes that have to be.
const EXCESS: f64 = 1.05;
/// Sectors that accesses must touch over those that they do.
const COALESCED: f64 = 0.95;
/// The share of a launch's sectors below which an access is not looked at: a number for a whole row
/// of values, such as its place among an expert's.
const NEGLIGIBLE: f64 = 0.01;

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
        let sectors = launch.totals.read.sectors + launch.totals.written.sectors;
        let least = (NEGLIGIBLE * sectors as f64) as u64;
        for site in launch.sites.iter().filter(|site| !site.shared) {
            if site.traffic.sectors < least {
                continue;
            }
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
    assert_lean_on(&emulator, &cuda, cases, bytes);
}

fn assert_lean_on<C: Case<Cuda>>(
    emulator: &Emulator,
    cuda: &Cuda,
    cases: impl IntoIterator<Item = C>,
    bytes: impl Fn(&C) -> usize,
) {
    let mut failures = Vec::new();
    for case in cases {
        println!("{case:?}");
        let launches = launches(emulator, cuda, &case);
        for fault in faults(emulator, &launches, bytes(&case)) {
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

/// Where a launch stores the new positions as well, it moves no more than their rows of the product
/// and of the cache.
#[test]
fn attend_reads_each_key_and_value_once() {
    let case = |(n_heads, n_kv_heads, head_dim), cached, mask, pairs| AttendCase {
        heads: Heads {
            n_heads,
            n_kv_heads,
            head_dim,
        },
        norm: true,
        rotation: Some(Rotation {
            n_pairs: head_dim / 2,
            pairs,
            attention_factor: 1.0,
        }),
        sequences: vec![Sequence { cached, new: 1 }; 2],
        soft_cap: None,
        mask,
    };
    let (halves, adjacent) = (RopePairs::Halves, RopePairs::Adjacent);
    let cases = [
        case((8, 2, 128), 2047, Mask::Causal, halves),
        case((4, 4, 64), 2047, Mask::Causal, adjacent),
        case((4, 1, 256), 1900, Mask::Causal, halves),
        case((6, 6, 80), 2000, Mask::Causal, adjacent),
        case((6, 2, 96), 2040, Mask::Causal, halves),
        case((8, 2, 128), 2047, Mask::Window(1024), halves),
    ];
    let (emulator, cuda) = device();
    let mut failures = Vec::new();
    for case in cases {
        println!("{case:?}");
        let mut launches = launches(&emulator, &cuda, &case);
        // The others look at what was stored.
        launches.truncate(1);
        let seen = |s: &Sequence| match case.mask {
            Mask::Window(n) => n,
            _ => s.cached + 1,
        };
        // Keys and values of 16 bits, the new ones written and not read; the product's row and
        // outputs of 32; the norms' weights.
        let positions: usize = case.sequences.iter().map(seen).sum();
        let (q_width, kv_width) = (
            case.heads.n_heads * case.heads.head_dim,
            case.heads.n_kv_heads * case.heads.head_dim,
        );
        let row = 4 * (q_width + 2 * kv_width) + 4 * q_width;
        let bytes = 2 * 2 * positions * kv_width + case.sequences.len() * row;
        for fault in faults(&emulator, &launches, bytes) {
            failures.push(format!("{case:?}: {fault}"));
        }
        let shared = launches[0].totals.shared;
        let banks = shared.least_wavefronts as f64 / shared.wavefronts as f64;
        println!("  {:.1} % without bank conflicts", 100.0 * banks);
        if banks < COALESCED {
            failures.push(format!("{case:?}: {banks:.2} without bank conflicts"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
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

/// Two experts, or four of which two have rows.
fn experts(parts: &[(Format, usize)], top_k: usize, load: Load, n_rows: usize) -> MoeMatmulCase {
    MoeMatmulCase {
        n_experts: match load {
            Load::Counts(counts) => counts.len(),
            Load::Chance | Load::Last => 2,
        },
        top_k,
        parts: parts.to_vec(),
        cols: 2048,
        input: Input::Rows,
        bias: false,
        load,
        n_rows,
    }
}

#[test]
fn experts_with_few_rows_read_each_weight_once() {
    let formats = Format::ALL.map(|format| experts(&[(format, 512)], 2, Load::Last, 1));
    let batch = [Format::Bf16, Format::Q8_0, Format::Q4K]
        .map(|format| experts(&[(format, 512)], 2, Load::Last, 8));
    let down = MoeMatmulCase {
        input: Input::Places,
        bias: true,
        ..experts(&[(Format::Q6K, 512)], 2, Load::Last, 8)
    };
    let (emulator, cuda) = device();
    let cases = formats.into_iter().chain(batch).chain([down]);
    let bytes = |case: &MoeMatmulCase| Case::<Cuda>::cost(case).bytes;
    assert_lean_on(&emulator, &cuda, cases, bytes);
}

/// Blocks read a tile of weights once for up to 32 or 64 places of an expert.
#[test]
fn experts_with_many_rows_read_each_weight_once_a_tile_of_places() {
    const NARROW: &[usize] = &[33, 0, 31];
    const WIDE: &[usize] = &[65, 0, 63];
    let (emulator, cuda) = device();
    let mut failures = Vec::new();
    for format in [
        Format::Bf16,
        Format::Q8_0,
        Format::Q4_1,
        Format::Q4K,
        Format::Q6K,
    ] {
        for (counts, n_places) in [(NARROW, 32), (WIDE, 64)] {
            let n_rows: usize = counts.iter().sum();
            let case = experts(&[(format, 256)], 1, Load::Counts(counts), n_rows);
            println!("{case:?}");
            let launches = launches(&emulator, &cuda, &case);
            let [_, product] = &launches[..] else {
                panic!("{case:?} launches {}", launches.len());
            };
            assert!(product.kernel.ends_with(&format!("_n{n_places}")));
            let (inputs, outputs) = (n_rows * case.cols * 4, n_rows * 256 * 4);
            let n_active = counts.iter().filter(|&&count| count > 0).count();
            let weights = (Case::<Cuda>::cost(&case).bytes - inputs - outputs) / n_active;
            // Packed activations have two bytes a value, and a word for every 32. Each group of 128
            // rows reads those of its places.
            let n_tiles: usize = counts.iter().map(|count| count.div_ceil(n_places)).sum();
            let packed = n_rows * case.cols / 32 * (2 * 32 + 4) * (256 / 128);
            let bytes = n_tiles * weights + packed;
            for fault in faults(&emulator, std::slice::from_ref(product), bytes + outputs) {
                failures.push(format!("{case:?}: {fault}"));
            }
            // Whatever the cache holds.
            let asked = product.totals.read.bytes as f64 / bytes as f64;
            println!("  asks for {asked:.3} of weights and activations");
            if asked > EXCESS {
                failures.push(format!("{case:?}: asks for {asked:.3} of its tiles"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn rows_are_routed_and_combined_by_touching_each_value_once() {
    let routing = |groups| Routing {
        scoring: Scoring::Softmax,
        groups,
        normalise: true,
        scale: 1.0,
    };
    let groups = Groups {
        n_groups: 8,
        n_chosen: 4,
        score: GroupScore::TopTwo,
    };
    let (emulator, cuda) = device();
    for (n_experts, groups) in [(128, None), (256, Some(groups))] {
        let case = MoeRouteCase {
            n_experts,
            top_k: 8,
            routing: routing(groups),
            bias: false,
            ties: false,
            n_rows: 256,
        };
        let mut launches = launches(&emulator, &cuda, &case);
        // The grouping writes a number a slot, in the order of slots, where it goes by experts.
        for launch in (launches.iter_mut()).filter(|launch| launch.kernel == "moe_group") {
            launch.sites.clear();
        }
        let bytes = Case::<Cuda>::cost(&case).bytes;
        assert_eq!(faults(&emulator, &launches, bytes), [""; 0], "{case:?}");
        let shared = launches[0].totals.shared;
        let banks = shared.least_wavefronts as f64 / shared.wavefronts.max(1) as f64;
        let free = groups.is_none() || banks > COALESCED;
        assert!(free, "{case:?}: {banks:.2} without bank conflicts");
    }
    assert_lean([false, true].map(|accumulate| MoeCombineCase {
        n_experts: 16,
        top_k: 8,
        width: 2048,
        accumulate,
        n_rows: 64,
    }));
}

#[test]
fn rope_append_touches_each_value_once() {
    let case = |head_dim, new, pairs| RopeAppendCase {
        heads: Heads {
            n_heads: 32,
            n_kv_heads: 8,
            head_dim,
        },
        sequences: vec![Sequence { cached: 100, new }; 4],
        norm: true,
        rotation: Some(Rotation {
            n_pairs: head_dim / 2,
            pairs,
            attention_factor: 1.0,
        }),
    };
    let cases = [
        case(128, 1, RopePairs::Halves),
        case(128, 16, RopePairs::Halves),
        case(64, 16, RopePairs::Adjacent),
    ];
    let (emulator, cuda) = device();
    let mut failures = Vec::new();
    for case in cases {
        println!("{case:?}");
        let launches = launches(&emulator, &cuda, &case);
        let append: Vec<_> = (launches.into_iter())
            .filter(|launch| launch.kernel == "rope_append")
            .collect();
        // Of 32 bits come queries, keys and values, and go queries; of 16 the others.
        let n_rows: usize = case.sequences.iter().map(|sequence| sequence.new).sum();
        let heads = 8 * case.heads.n_heads + 2 * (4 + 2) * case.heads.n_kv_heads;
        let bytes = n_rows * case.heads.head_dim * heads;
        for fault in faults(&emulator, &append, bytes) {
            failures.push(format!("{case:?}: {fault}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
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
