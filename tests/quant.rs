//! Decoding of every weight format against the tables of the `gguf` Python package, of FP8
//! against `ml_dtypes`, and of GPTQ and AWQ layers against numpy.
//!
//! `golden/quant/make.py` wrote the blocks (random integers; scales random and extreme:
//! signed zeros, subnormals, the largest half) and the weights that numpy finds in them.

use onward_kernels::Format;
use onward_kernels::quant::dequantise;
use onward_kernels::quant::int4::{PackedInt4, Packing};
use serde::Deserialize;

/// Bits, not a tolerance: a weight is at most two products and a difference, each rounded to
/// f32, and the tables round in the same places.
#[test]
fn weights_have_the_bits_of_the_gguf_tables() {
    for format in Format::ALL {
        let path = format!("{}/golden/quant/{format}.bin", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let n_blocks = bytes.len() / (format.block_bytes() + 4 * format.block_len());
        assert!(n_blocks >= 12, "{path} holds {n_blocks} blocks");

        let (blocks, expected) = bytes.split_at(n_blocks * format.block_bytes());
        let mut weights = vec![f32::NAN; n_blocks * format.block_len()];
        dequantise(format, blocks, &mut weights).unwrap();

        for (i, (weight, expected)) in weights.iter().zip(expected.chunks_exact(4)).enumerate() {
            let expected = f32::from_le_bytes(expected.try_into().unwrap());
            assert_eq!(
                weight.to_bits(),
                expected.to_bits(),
                "{format}: weight {i} is {weight}, the table has {expected}"
            );
        }
    }
}

/// A layer as its checkpoint packs it, and the weights `[rows, cols]` that numpy packed.
#[derive(Deserialize)]
struct Layer {
    packing: String,
    rows: usize,
    cols: usize,
    group: usize,
    qweight: Vec<i32>,
    qzeros: Vec<i32>,
    scales: Vec<u16>,
    weights: Vec<f32>,
}

fn layers() -> Vec<Layer> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/quant/int4.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Calls `f` with the layer as a loader would hold it.
fn with_packed<T>(layer: &Layer, f: impl FnOnce(PackedInt4<'_>) -> T) -> T {
    let (qweight, qzeros) = (bytes(&layer.qweight), bytes(&layer.qzeros));
    let scales: Vec<u8> = layer.scales.iter().flat_map(|s| s.to_le_bytes()).collect();
    let packing = match layer.packing.as_str() {
        "gptq" => Packing::Gptq,
        "gptq_v2" => Packing::GptqV2,
        _ => Packing::Awq,
    };
    f(PackedInt4 {
        name: "layer",
        packing,
        rows: layer.rows,
        cols: layer.cols,
        group: layer.group,
        qweight: &qweight,
        qzeros: &qzeros,
        scales: &scales,
        g_idx: None,
    })
}

#[test]
fn packed_integers_become_blocks_of_the_same_weights() {
    for layer in layers() {
        let (format, blocks) = with_packed(&layer, |packed| packed.repack().unwrap());
        let expected_format = match layer.group {
            32 | 64 => Format::Int4G32,
            _ => Format::Int4G128,
        };
        assert_eq!(format, expected_format);
        let mut weights = vec![f32::NAN; layer.rows * layer.cols];
        dequantise(format, &blocks, &mut weights).unwrap();
        assert_eq!(
            weights, layer.weights,
            "{} in groups of {}",
            layer.packing, layer.group
        );
    }
}

#[test]
fn packed_integers_of_another_shape_or_order_are_errors() {
    let layer = &layers()[0];
    let group_of = |i: usize| (i / layer.group) as i32;
    let runs: Vec<i32> = (0..layer.cols).map(group_of).collect();
    let (mut swapped, runs) = (runs.clone(), bytes(&runs));
    swapped.swap(0, layer.cols - 1);
    let swapped = bytes(&swapped);
    with_packed(layer, |good| {
        let in_order = PackedInt4 {
            g_idx: Some(&runs),
            ..good
        };
        assert_eq!(in_order.repack().unwrap(), good.repack().unwrap());
        for (bad, says) in [
            (PackedInt4 { group: 48, ..good }, "groups of 48"),
            (PackedInt4 { group: 0, ..good }, "groups of 0"),
            (PackedInt4 { group: 64, ..good }, "qzeros has"),
            (PackedInt4 { rows: 12, ..good }, "[12, 64] is not whole"),
            (PackedInt4 { rows: 24, ..good }, "qweight has"),
            (PackedInt4 { cols: 0, ..good }, "[16, 0] is not whole"),
            (
                PackedInt4 {
                    scales: &good.scales[2..],
                    ..good
                },
                "scales has",
            ),
            (
                PackedInt4 {
                    g_idx: Some(&swapped),
                    ..good
                },
                "desc_act",
            ),
        ] {
            let error = bad.repack().unwrap_err().to_string();
            assert!(error.contains(says), "{error} does not say {says}");
        }
    });
}
