//! The cases of `embed`.

use super::Embed;
use crate::backend::{Backend, Batch};
use crate::error::Result;
use crate::ops::registry::{
    Case, Cost, N_ROWS, NORMAL, Prepared, Random, Tolerance, fetch, independent_rows, random_matrix,
};
use crate::quant::Format;

/// A table and how many of its rows to fetch.
#[derive(Clone, Debug)]
pub struct EmbedCase {
    /// Encoding of the table.
    pub format: Format,
    /// Rows of the table.
    pub vocab: usize,
    /// Row length.
    pub width: usize,
    /// Tokens.
    pub n_rows: usize,
}

struct Arguments<B: Backend> {
    batch: Batch,
    table: B::Matrix,
    width: usize,
    out: B::Buffer,
}

pub(crate) fn all() -> Vec<EmbedCase> {
    let case = |format: Format, vocab, blocks, n_rows| EmbedCase {
        format,
        vocab,
        width: blocks * format.block_len(),
        n_rows,
    };
    let mut cases = vec![
        case(Format::Q8_0, 262_144, 1, 9),
        case(Format::Q4K, 1, 1, 1),
        case(Format::F32, 33, 1, 7),
    ];
    for format in Format::ALL {
        cases.extend(N_ROWS.map(|n_rows| case(format, 33, 3, n_rows)));
    }
    cases
}

impl<B: Backend> Case<B> for EmbedCase {
    independent_rows!();

    fn tolerance(&self, _backend: &B) -> Tolerance {
        Tolerance {
            deviation: 1e-7,
            largest: NORMAL,
            floor: 1.0,
            reason: "decoding and scaling may round once more or less than the definition",
        }
    }

    fn cost(&self) -> Cost {
        let values = self.n_rows * self.width;
        let encoded = self.format.row_bytes(self.width).unwrap_or(0);
        Cost {
            bytes: self.n_rows * encoded + size_of::<f32>() * values,
            flops: values,
        }
    }

    fn prepare(&self, backend: &B) -> Result<Box<dyn Prepared<B>>> {
        let mut random = Random::new(2);
        let token = |_| random.below(self.vocab) as u32;
        let tokens: Vec<u32> = (0..self.n_rows).map(token).collect();
        let mut batch = Batch::default();
        // Nothing is looked up in the cache.
        batch.push(&tokens, 0, &[]);
        Ok(Box::new(Arguments::<B> {
            batch,
            table: random_matrix(backend, &[(self.format, self.vocab)], self.width, 1.0)?,
            width: self.width,
            out: backend.buffer(self.n_rows * self.width)?,
        }))
    }
}

impl<B: Backend> Prepared<B> for Arguments<B> {
    fn launch(&mut self, backend: &B) -> Result<()> {
        backend.embed(Embed {
            batch: &self.batch,
            table: &self.table,
            // Gemma's factor, which also brings the values to a magnitude of one.
            scale: (self.width as f32).sqrt(),
            out: &mut self.out,
        })
    }

    fn outputs(&mut self, backend: &B) -> Result<Vec<f32>> {
        fetch(backend, &self.out, self.batch.n_rows() * self.width)
    }
}
