//! Seeded random arguments: the same on every machine and every backend.

use crate::backend::{Backend, MatrixSource};
use crate::error::{Error, Result};
use crate::quant::{self, Format};

/// A stream of random numbers (SplitMix64, Steele et al. 2014), fixed by its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream number `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xA076_1D64_78BD_642F))
    }

    /// 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "a stream without end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A whole number less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// `len` numbers between -1 and 1.
    pub fn uniform(&mut self, len: usize) -> Vec<f32> {
        let one = |_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        (0..len).map(one).collect()
    }

    /// `len` numbers with mean 0 and the given standard deviation: sums of four uniform ones,
    /// close to a normal distribution and equal on all machines.
    pub fn normal(&mut self, len: usize, deviation: f32) -> Vec<f32> {
        // Four uniforms on 0..65536 have the mean 2·65535 and the variance 4·(65536² − 1)/12.
        let scale = deviation * 3.0_f32.sqrt() / 65536.0;
        let one = |_| {
            let bits = self.next();
            let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xFFFF).sum();
            (sum as f32 - 131_070.0) * scale
        };
        (0..len).map(one).collect()
    }
}

/// A stack of random matrices `(format, rows)` over `cols` inputs, which turns inputs of
/// magnitude one into outputs of that magnitude times `gain`.
pub(crate) fn random_matrix<B: Backend>(
    backend: &B,
    parts: &[(Format, usize)],
    cols: usize,
    gain: f32,
) -> Result<B::Matrix> {
    let data = random_parts(&mut Random::new(1), parts, cols, gain)?;
    backend.matrix(&sources(parts, cols, &data))
}

/// The matrices of `n_experts` experts, each as those of [`random_matrix`].
pub(crate) fn random_experts<B: Backend>(
    backend: &B,
    n_experts: usize,
    parts: &[(Format, usize)],
    cols: usize,
) -> Result<B::Experts> {
    let mut random = Random::new(1);
    let data = (0..n_experts)
        .map(|_| random_parts(&mut random, parts, cols, 1.0))
        .collect::<Result<Vec<_>>>()?;
    let experts: Vec<_> = data.iter().map(|data| sources(parts, cols, data)).collect();
    backend.experts(&experts)
}

/// The encoded weights of each part.
fn random_parts(
    random: &mut Random,
    parts: &[(Format, usize)],
    cols: usize,
    gain: f32,
) -> Result<Vec<Vec<u8>>> {
    let encode = |&(format, rows): &(Format, usize)| {
        let too_long = || Error::OutOfMemory {
            what: "a random matrix",
            bytes: usize::MAX,
        };
        let len = rows.checked_mul(cols).ok_or_else(too_long)?;
        quant::quantise(format, &random.normal(len, gain / (cols as f32).sqrt()))
    };
    parts.iter().map(encode).collect()
}

fn sources<'a>(
    parts: &[(Format, usize)],
    cols: usize,
    data: &'a [Vec<u8>],
) -> Vec<MatrixSource<'a>> {
    let source = |(&(format, rows), data): (&(Format, usize), &'a Vec<u8>)| MatrixSource {
        name: "random",
        format,
        rows,
        cols,
        data,
    };
    parts.iter().zip(data).map(source).collect()
}
