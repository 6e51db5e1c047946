//! `moe_route` on the CPU: the reference's rows, in parallel where there are many.

use super::MoeRoute;
use super::reference::route;
use crate::backend::RoutesArray;
use crate::cpu::memory::Shared;
use crate::cpu::{Cpu, SHARE};

pub(crate) fn run(cpu: &Cpu, op: MoeRoute<'_, Cpu>) {
    let shape = *op.routes.shape();
    let (n_experts, top_k) = (shape.n_experts, shape.top_k);
    let experts = Shared::new(&mut op.routes.experts);
    let weights = Shared::new(&mut op.routes.weights);
    // An expert costs an exponential and, for each slot, a comparison.
    let rows_a_share = SHARE / (n_experts * (8 + top_k)) + 1;
    cpu.pool.split(op.n_rows, rows_a_share, |rows| {
        for row in rows {
            let slots = row * top_k..(row + 1) * top_k;
            // SAFETY: workers have different rows.
            let (experts, weights) = unsafe { (experts.part(slots.clone()), weights.part(slots)) };
            let logits = &op.logits[row * n_experts..][..n_experts];
            let bias = op.bias.map(|bias| &**bias);
            route(logits, bias, op.routing, experts, weights);
        }
    });
    op.routes.group(op.n_rows);
}
