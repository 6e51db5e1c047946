//! Decoding of every weight format against the tables of the `gguf` Python package.
//!
//! `golden/quant/make.py` wrote the blocks (random integers; scales random and extreme:
//! signed zeros, subnormals, the largest half) and the weights that numpy finds in them.

use onward_kernels::Format;
use onward_kernels::quant::dequantise;

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
