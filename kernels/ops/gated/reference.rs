//! `gated` in plain loops.

use super::{Activation, Gated};
use crate::reference::Reference;

pub(crate) fn run(op: Gated<'_, Reference>) {
    let width = op.width;
    let rows = op.gate_up.chunks_exact(2 * width).take(op.n_rows);
    for (gate_up, out) in rows.zip(op.out.chunks_exact_mut(width)) {
        let (gate, up) = gate_up.split_at(width);
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = activate(op.activation, gate) * up;
        }
    }
}

/// The function of a gate.
pub(crate) fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let sqrt_2_over_pi = (2.0 * std::f32::consts::FRAC_1_PI).sqrt();
            let inner = sqrt_2_over_pi * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}
