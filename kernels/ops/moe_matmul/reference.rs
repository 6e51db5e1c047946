//! `moe_matmul` in plain loops.

use super::{Input, MoeMatmul};
use crate::backend::ExpertStack;
use crate::reference::Reference;

pub(crate) fn run(op: MoeMatmul<'_, Reference>) {
    let (rows, cols) = (op.experts.rows(), op.experts.cols());
    for (expert, matrix) in op.experts.matrices.iter().enumerate() {
        let places = op.routes.places_of(expert);
        let inputs: Vec<&[f32]> = places
            .clone()
            .map(|place| match op.input {
                Input::Rows => op.routes.rows[place] as usize,
                Input::Places => place,
            })
            .map(|row| &op.x[row * cols..][..cols])
            .collect();
        let products = matrix.products(&inputs);
        for (index, place) in places.enumerate() {
            for o in 0..rows {
                let y = products[o * inputs.len() + index];
                let bias = op.bias.map_or(0.0, |bias| bias[expert * rows + o]);
                op.out[place * rows + o] = y + bias;
            }
        }
    }
}
