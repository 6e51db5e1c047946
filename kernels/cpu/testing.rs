//! What the tests of the CPU backend's operations share.

use super::{Cpu, Isa};

/// `len` values in −1…1, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    next();
    (0..len).map(|_| next()).collect()
}

/// One of each instruction set and thread count.
pub(crate) fn machines() -> impl Iterator<Item = Cpu> {
    Isa::available().flat_map(|isa| [1, 3].map(|n| Cpu::with_isa(n, isa).unwrap()))
}

/// The greatest of |got − want| / (1 + |want|).
pub(crate) fn error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let pairs = got.iter().zip(want);
    pairs.fold(0.0, |worst, (&got, &want)| {
        let error = (f64::from(got) - want).abs() / (1.0 + want.abs());
        // Not `max`: NaN must not get lost.
        if error <= worst { worst } else { error }
    })
}
