//! The cases of `sample`: shapes of rows and sets of parameters, a set a row in turn.

use super::{Sample, SampleRow, SamplingParams};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::registry::{Case, Cost, Prepared, Random, Tolerance, independent_rows};

/// Most probable tokens in the outputs.
const N_TOP: usize = 3;

/// How a row's logits are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Normal, and no two alike but by chance.
    Normal,
    /// Normal, rounded to quarters: ties everywhere, −0 beside 0.
    Ties,
    /// All alike.
    Flat,
    /// One token far above the others.
    OneHot,
    /// Nine in ten are −inf.
    Sparse,
}

/// Rows of logits.
#[derive(Clone, Debug)]
pub struct SampleCase {
    /// Rows; row `i` has the parameters number `i` of a list that begins at `first_params`.
    pub n_rows: usize,
    /// Tokens.
    pub vocab: usize,
    /// How logits are spread.
    pub spread: Spread,
    /// Where the list of parameters begins.
    pub first_params: usize,
}

struct Arguments<B: Backend> {
    case: SampleCase,
    logits: B::Buffer,
    rows: Vec<OwnedRow>,
    drawn: Vec<f32>,
}

/// What a [`SampleRow`] borrows.
struct OwnedRow {
    params: SamplingParams,
    history: Vec<u32>,
    allowed: Option<Vec<u32>>,
}

pub(crate) fn all() -> Vec<SampleCase> {
    let case = |n_rows, vocab, spread, first_params| SampleCase {
        n_rows,
        vocab,
        spread,
        first_params,
    };
    let mut cases = Vec::new();
    for spread in [
        Spread::Normal,
        Spread::Ties,
        Spread::Flat,
        Spread::OneHot,
        Spread::Sparse,
    ] {
        for vocab in [1, 2, 33, 1000] {
            cases.push(case(parameters(vocab).len(), vocab, spread, 0));
        }
    }
    for (n_rows, first_params) in [(1, 0), (7, 1), (8, 8), (9, 16)] {
        cases.push(case(n_rows, 32_000, Spread::Normal, first_params));
    }
    cases.push(case(3, 50_257, Spread::Ties, 4));
    for first_params in [0, 3, 6, 9, 12] {
        cases.push(case(2, 262_144, Spread::Normal, first_params));
    }
    cases.push(case(2, 262_144, Spread::Flat, 4));
    cases
}

/// Each parameter alone, at its ends and together with the others.
fn parameters(vocab: usize) -> Vec<SamplingParams> {
    let top_k = |top_k| SamplingParams {
        top_k,
        ..SamplingParams::plain(1.0)
    };
    let top_p = |top_p| SamplingParams {
        top_p,
        ..SamplingParams::plain(1.0)
    };
    let min_p = |min_p| SamplingParams {
        min_p,
        ..SamplingParams::plain(0.7)
    };
    let both = |top_k, top_p| SamplingParams {
        top_k,
        top_p,
        ..SamplingParams::plain(1.3)
    };
    vec![
        SamplingParams::default(),
        SamplingParams::greedy(),
        SamplingParams::plain(1.0),
        top_k(40),
        top_p(0.95),
        both(vocab / 2 + 1, 0.9),
        min_p(0.05),
        SamplingParams::plain(1e-3),
        SamplingParams::plain(100.0),
        top_k(1),
        top_k(vocab),
        top_k(vocab.saturating_sub(1)),
        top_p(0.0),
        top_p(1e-6),
        top_p(0.999_999_9),
        min_p(1.0),
        both(vocab.saturating_sub(1), 0.5),
        both(20, 0.999),
        SamplingParams {
            repeat_penalty: 1.3,
            ..SamplingParams::plain(0.8)
        },
        SamplingParams {
            frequency_penalty: 0.7,
            repeat_last_n: 5,
            ..top_k(10)
        },
        SamplingParams {
            presence_penalty: -0.9,
            ..top_p(0.8)
        },
        SamplingParams {
            repeat_penalty: 0.8,
            frequency_penalty: -0.3,
            presence_penalty: 0.4,
            repeat_last_n: usize::MAX,
            ..SamplingParams::greedy()
        },
        SamplingParams {
            logit_bias: vec![(0, 0.1), (vocab as u32 / 2, 2.5), (0, 0.7), (0, -0.3)],
            repeat_penalty: 1.1,
            min_p: 0.01,
            ..both(100, 0.9)
        },
    ]
}

impl SampleCase {
    /// The parameters, history and mask of row `index`, which always leave a token.
    fn row(&self, index: usize) -> OwnedRow {
        let mut random = Random::new(700 + index as u64);
        let mut list = parameters(self.vocab);
        let number = (self.first_params + index) % list.len();
        let history = (0..40)
            .map(|_| random.below(self.vocab.min(50)) as u32)
            .collect();
        let bits = |_| (random.below(1 << 32) | random.below(1 << 32)) as u32;
        let allowed = (index % 4 == 3).then(|| (0..self.vocab.div_ceil(32)).map(bits).collect());
        OwnedRow {
            params: SamplingParams {
                seed: index as u64 * 0x1_0000_0001,
                ..list.swap_remove(number)
            },
            history,
            allowed: allowed.map(|mut words: Vec<u32>| {
                words[self.vocab / 64] |= 1 << (self.vocab / 2 % 32);
                words
            }),
        }
    }

    fn logits(&self, index: usize) -> Vec<f32> {
        let mut random = Random::new(900 + index as u64);
        let mut logits = random.normal(self.vocab, 3.0);
        // A mask and biases leave the token in the middle.
        let middle = self.vocab / 2;
        match self.spread {
            Spread::Normal => {}
            Spread::Ties => logits
                .iter_mut()
                .for_each(|l| *l = (*l * 4.0).round() / 4.0),
            Spread::Flat => logits.fill(-1.25),
            Spread::OneHot => logits[random.below(self.vocab)] = 90.0,
            Spread::Sparse => {
                for (token, logit) in logits.iter_mut().enumerate() {
                    if token != middle && random.below(10) > 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
        logits
    }
}

impl<B: Backend> Case<B> for SampleCase {
    independent_rows!();

    fn tolerance(&self, _backend: &B) -> Tolerance {
        Tolerance {
            deviation: 0.0,
            largest: 1.0,
            floor: 1.0,
            reason: "single operations and integers: the bits are the same everywhere",
        }
    }

    fn cost(&self) -> Cost {
        let values = self.n_rows * self.vocab;
        Cost {
            bytes: size_of::<f32>() * values,
            // The polynomial of the exponential, for the raw and the tempered weight.
            flops: 2 * 20 * values,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let logits: Vec<f32> = (0..self.n_rows).flat_map(|i| self.logits(i)).collect();
        Ok(Box::new(Arguments::<B> {
            case: self.clone(),
            logits: backend.upload(&logits)?,
            rows: (0..self.n_rows).map(|i| self.row(i)).collect(),
            drawn: Vec::new(),
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        let rows = self.rows.iter().enumerate().map(|(i, row)| SampleRow {
            params: &row.params,
            history: &row.history,
            position: i as u64 * 3,
            allowed: row.allowed.as_deref(),
        });
        let drawn = backend.sample(Sample {
            logits: &self.logits,
            vocab: self.case.vocab,
            rows: &rows.collect::<Vec<_>>(),
            n_top: N_TOP,
        })?;
        self.drawn.clear();
        for sampled in drawn {
            let sampled = sampled?;
            // Token ids of these vocabularies are f32 numbers.
            let mut columns = vec![sampled.token as f32, sampled.logprob];
            for &(token, logprob) in &sampled.top {
                // −inf has no distance to itself.
                columns.extend([token as f32, logprob.max(f32::MIN)]);
            }
            columns.resize(2 + 2 * N_TOP, -1.0);
            self.drawn.extend(columns);
        }
        Ok(())
    }

    fn outputs(&mut self, _: &B) -> Result<Vec<f32>> {
        Ok(self.drawn.clone())
    }
}
