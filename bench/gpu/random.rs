//! Random weights, made as fast as memory takes them: fresh bits in every block, since equal
//! bytes would be cheaper to move and to multiply.

use anyhow::{Context, Result, bail};
use onward_kernels::Format;
use onward_kernels::ops::registry::Random;
use onward_kernels::quant::Half;

/// Bytes that a thread fills at a time; a multiple of every block.
const PIECE: usize = 144 << 14;

/// The encoded weights of a matrix: of a deviation about 1/√cols, so that outputs are about as
/// large as inputs.
pub(crate) fn weights(format: Format, rows: usize, cols: usize, seed: u64) -> Result<Vec<u8>> {
    let row_bytes = format.row_bytes(cols);
    let row_bytes =
        row_bytes.with_context(|| format!("{cols} weights are no blocks of {format}"))?;
    let deviation = 1.0 / (cols as f32).sqrt();
    let fill: fn(&mut [u8], &mut Random, f32) = match format {
        Format::Bf16 => bf16,
        Format::Q4K => q4_k,
        _ => bail!("there are no random weights in {format}"),
    };
    let mut bytes = vec![0; rows * row_bytes];
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (bytes.len().div_ceil(PIECE).div_ceil(n_threads)).max(1) * PIECE;
    std::thread::scope(|scope| {
        for (index, part) in bytes.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                let mut random = Random::new((seed << 16) + index as u64);
                fill(part, &mut random, deviation);
            });
        }
    });
    Ok(bytes)
}

/// Signs and mantissas at random, exponents of the deviation and the one below it.
fn bf16(bytes: &mut [u8], random: &mut Random, deviation: f32) {
    let exponent = (deviation.to_bits() >> 23) as u16;
    for word in bytes.chunks_mut(8) {
        let bits = random.next();
        for (index, value) in word.chunks_exact_mut(2).enumerate() {
            let bits = (bits >> (16 * index)) as u16;
            let exponent = exponent - (bits >> 14 & 1);
            let encoded = (bits & 0x8000) | exponent << 7 | (bits & 0x7F);
            value.copy_from_slice(&encoded.to_le_bytes());
        }
    }
}

/// Everything at random but the two scales of a block. With 6-bit scales and minima and 4-bit
/// values, `scale·q − 7.5·min` has the mean 0 and the deviation 257.
fn q4_k(bytes: &mut [u8], random: &mut Random, deviation: f32) {
    const BLOCK: usize = 144;
    let d = deviation / 257.0;
    let (d, d_min) = (Half::nearest_finite(d), Half::nearest_finite(7.5 * d));
    for block in bytes.chunks_exact_mut(BLOCK) {
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        block[..2].copy_from_slice(&d.0);
        block[2..4].copy_from_slice(&d_min.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onward_kernels::quant::dequantise;

    #[test]
    fn weights_have_the_mean_and_the_deviation_they_should() {
        let (rows, cols) = (512, 1024);
        for (format, tolerance) in [(Format::Bf16, 0.6), (Format::Q4K, 0.1)] {
            let bytes = weights(format, rows, cols, 1).unwrap();
            let mut values = vec![0.0; rows * cols];
            dequantise(format, &bytes, &mut values).unwrap();
            let n = values.len() as f64;
            let mean = values.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
            let square = values.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / n;
            let deviation = square.sqrt() * (cols as f64).sqrt();
            assert!(mean.abs() < 1e-3, "{format}: {mean}");
            assert!((deviation - 1.0).abs() < tolerance, "{format}: {deviation}");
            let half = bytes.len() / 2;
            assert_ne!(bytes[..half], bytes[half..], "{format}");
        }
    }
}
