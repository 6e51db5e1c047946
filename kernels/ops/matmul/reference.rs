//! `matmul` in plain loops.

use super::Matmul;
use crate::backend::Dimensions;
use crate::ops::gated::reference::activate;
use crate::ops::rms_norm::reference::normaliser;
use crate::reference::Reference;

pub(crate) fn run(op: Matmul<'_, Reference>) {
    let (n_rows, rows, cols) = (op.n_rows, op.weight.rows(), op.weight.cols());
    let width = op.out_width();
    let mut inputs: Vec<Vec<f32>> =
        op.x.chunks_exact(cols)
            .take(n_rows)
            .map(Vec::from)
            .collect();
    if let Some(norm) = &op.norm {
        for input in &mut inputs {
            let factor = normaliser(input, norm.epsilon);
            for (x, &weight) in input.iter_mut().zip(&**norm.weight) {
                *x = *x * factor * weight;
            }
        }
    }
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let products = op.weight.products(&inputs);
    let output = |r: usize, o: usize| {
        let y = products[o * n_rows + r] + op.bias.map_or(0.0, |bias| bias[o]);
        op.soft_cap.map_or(y, |cap| cap * (y / cap).tanh())
    };
    for (r, out) in op.out.chunks_exact_mut(width).take(n_rows).enumerate() {
        for (o, out) in out.iter_mut().enumerate() {
            let y = match op.gate {
                Some(activation) => activate(activation, output(r, o)) * output(r, rows / 2 + o),
                None => output(r, o),
            };
            *out = if op.accumulate { *out + y } else { y };
        }
    }
}
