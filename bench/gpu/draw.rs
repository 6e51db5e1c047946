//! Drawing tokens from logits, as a step of decoding does behind its forward pass.

use anyhow::{Context, Result, ensure};
use onward_kernels::cuda::Cuda;
use onward_kernels::decode::{DecodeShape, Decoder, SampleStart};
use onward_kernels::ops::logits::Logits;
use onward_kernels::ops::sample::{SampleRow, SamplingParams};
use onward_kernels::{Backend, Format, MatrixSource};
use serde_json::json;

use crate::Bench;
use crate::random::weights;
use crate::record::Spread;
use onward_kernels::ops::registry::Random;

/// Columns of the head that makes the logits.
const WIDTH: usize = 64;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let vocab = bench.pick(128_256, 512);
    for &batch in bench.pick(&[1, 8, 64, 256][..], &[1, 2]) {
        let cuda = bench.open()?;
        let times = draws(bench, &cuda, batch, vocab)?;
        let what = json!({ "batch": batch, "vocab": vocab, "bytes": 4 * batch * vocab });
        Spread::new(times)?.say("draw", "us", &what)?;
    }
    Ok(())
}

/// Microseconds of drawing `batch` tokens with the usual parameters.
fn draws(bench: &Bench, cuda: &Cuda, batch: usize, vocab: usize) -> Result<Vec<f64>> {
    let mut decoder = cuda.decoder(&DecodeShape {
        n_slots: batch,
        n_logits: batch,
        vocab,
        n_ctx: 256,
        spare_page: 0,
    })?;
    let head = weights(Format::Bf16, vocab, WIDTH, 1)?;
    let head = cuda.matrix(&[MatrixSource {
        name: "head",
        format: Format::Bf16,
        rows: vocab,
        cols: WIDTH,
        data: &head,
    }])?;
    let (x, slots) = (
        cuda.upload(&Random::new(2).uniform(batch * WIDTH))?,
        0..batch,
    );
    let slots: Vec<usize> = slots.collect();
    cuda.logits(Logits {
        x: &x,
        rows: &slots,
        weight: &head,
        scale: 3.0,
        soft_cap: None,
        out: decoder.logits(),
    })?;
    let (repeats, warm) = (bench.pick(20, 2), 2);
    for &slot in &slots {
        let params = SamplingParams {
            seed: slot as u64,
            ..SamplingParams::default()
        };
        let row = SampleRow {
            params: &params,
            history: &[1],
            position: 1,
            allowed: None,
        };
        let start = SampleStart {
            row,
            stops: &[],
            max_tokens: repeats + warm,
            n_top: 0,
        };
        decoder.start(cuda, slot, &start)?;
    }
    let mut times = Vec::new();
    for _ in 0..repeats + warm {
        let from = cuda.device().moment()?;
        decoder.draw(cuda, &slots)?;
        let to = cuda.device().moment()?;
        times.push(f64::from(from.milliseconds_until(&to)?) * 1e3);
        for &slot in &slots {
            let token = decoder.take(cuda, slot)?.context("no token was drawn")??;
            ensure!(
                (token.token as usize) < vocab,
                "a token beyond the vocabulary was drawn"
            );
        }
    }
    Ok(times.split_off(warm))
}
