//! `moe_matmul` on the CPU: the products of all experts in one fork and join.

use super::{Input, MoeMatmul};
use crate::backend::ExpertStack;
use crate::cpu::Cpu;
use crate::error::Result;
use crate::ops::matmul::cpu::{Product, Rows, products};

pub(crate) fn run(cpu: &Cpu, op: MoeMatmul<'_, Cpu>) -> Result<()> {
    let (rows, cols) = (op.experts.rows(), op.experts.cols());
    let mut rest = &mut op.out[..];
    let mut of_experts = Vec::with_capacity(op.experts.n_experts());
    for (expert, weight) in op.experts.matrices.iter().enumerate() {
        let places = op.routes.places_of(expert);
        let (out, behind) = rest.split_at_mut(places.len() * rows);
        rest = behind;
        let (x, chosen) = match op.input {
            Input::Rows => (&op.x[..], Rows::Listed(op.routes.rows_of(expert))),
            Input::Places => (&op.x[places.start * cols..], Rows::First(places.len())),
        };
        of_experts.push(Product {
            x,
            rows: chosen,
            weight,
            bias: op.bias.map(|bias| &bias[expert * rows..][..rows]),
            accumulate: false,
            out,
        });
    }
    products(cpu, of_experts)
}
