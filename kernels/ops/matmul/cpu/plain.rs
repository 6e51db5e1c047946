//! Microkernels in plain Rust: 16 rows × up to 4 tokens, for any machine; the compiler makes
//! vector code of their loops. Integer weights are expanded first.

use super::activations::Meta;
use super::kernel::{Call, Kernel};
use crate::cpu::tiles::{Expanded, FloatLanes, FloatStep, GROUP, Lanes, QuantStep, TILE_ROWS};

/// Columns under one pair of `Meta`: half a group.
const HALF: usize = GROUP / 2;

/// The kernels of a format of integers, over [`Expanded`] steps.
pub(super) const fn quant_kernels<S: QuantStep>() -> [Kernel; 4] {
    [quant::<S, 1>, quant::<S, 2>, quant::<S, 3>, quant::<S, 4>]
}

/// The kernels of a format of floats.
pub(super) const fn float_kernels<S: FloatStep>() -> [Kernel; 4] {
    [float::<S, 1>, float::<S, 2>, float::<S, 3>, float::<S, 4>]
}

/// See [`Expand`](super::kernel::Expand); there is nothing unsafe about this one.
pub(super) unsafe fn expand<S: QuantStep>(steps: &[u8], out: &mut [Expanded]) {
    expand_steps::<S>(steps, out);
}

/// The body of every `expand`, compiled for the instructions of its caller.
#[inline(always)]
pub(super) fn expand_steps<S: QuantStep>(steps: &[u8], out: &mut [Expanded]) {
    let steps: &[S] = bytemuck::cast_slice(steps);
    let per_step = S::COLS / GROUP;
    for (index, group) in out.iter_mut().enumerate() {
        steps[index / per_step].expand(index % per_step, group);
    }
}

/// What the sums of token `t` begin with.
///
/// # Safety
/// As for [`Kernel`].
#[inline(always)]
pub(super) unsafe fn start(call: &Call, t: usize) -> FloatLanes {
    let mut acc = [0.0; TILE_ROWS];
    for (row, acc) in acc.iter_mut().enumerate().take(call.n_rows) {
        if !call.bias.is_null() {
            // SAFETY: the caller vouches for `n_rows` values.
            *acc += unsafe { call.bias.add(row).read() };
        }
        if call.resume {
            // SAFETY: as above.
            *acc += unsafe { call.out.add(t * call.out_stride + row).read() };
        }
    }
    acc
}

/// Stores the sums of token `t`.
///
/// # Safety
/// As for [`Kernel`].
#[inline(always)]
pub(super) unsafe fn finish(call: &Call, t: usize, acc: &FloatLanes) {
    for (row, &acc) in acc.iter().enumerate().take(call.n_rows) {
        // SAFETY: the caller vouches for `n_rows` values.
        unsafe { call.out.add(t * call.out_stride + row).write(acc) };
    }
}

/// See [`Kernel`].
unsafe fn quant<S: QuantStep, const N: usize>(call: &Call) {
    // SAFETY: the caller vouches for the call's pointers, which advance here by exactly its
    // steps; steps are expanded groups.
    unsafe {
        let mut acc: [FloatLanes; N] = std::array::from_fn(|t| start(call, t));
        let (mut acts, mut meta) = (call.acts, call.meta);
        for index in 0..call.n_steps {
            let group = &*call.steps.cast::<Expanded>().add(index);
            for half in 0..2 {
                for (t, acc) in acc.iter_mut().enumerate() {
                    let acts = &*acts.add(HALF * t).cast::<[i8; HALF]>();
                    add_half::<S>(group, half, acts, &*meta.add(t), acc);
                }
                acts = acts.add(call.unit_stride);
                meta = meta.byte_add(call.unit_stride);
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            finish(call, t, acc);
        }
    }
}

#[inline(always)]
fn add_half<S: QuantStep>(
    group: &Expanded,
    half: usize,
    acts: &[i8; HALF],
    meta: &Meta,
    acc: &mut FloatLanes,
) {
    let n_scales = HALF / S::SCALE_COLS;
    for part in 0..n_scales {
        let minus_sum = if n_scales == 1 {
            meta.minus_sum
        } else {
            meta.minus_half_sums[part]
        };
        let mut sums = [minus_sum * i32::from(S::OFFSET); TILE_ROWS];
        let first = part * S::SCALE_COLS;
        for four in (first..first + S::SCALE_COLS).step_by(4) {
            let acts = [acts[four], acts[four + 1], acts[four + 2], acts[four + 3]];
            add_products(&group.q[(half * HALF + four) / 4], acts, &mut sums);
        }
        let scales = &group.scales[half * n_scales + part];
        for row in 0..TILE_ROWS {
            acc[row] += sums[row] as f32 * (scales[row] * meta.scale);
        }
    }
    if S::HAS_MINS {
        let mins = &group.mins[half];
        for row in 0..TILE_ROWS {
            acc[row] -= mins[row] * meta.scaled_sum;
        }
    }
}

/// Adds the products of four columns. Each column is widened by itself: the same operation for
/// all rows, which becomes vector code on any machine.
#[inline(always)]
fn add_products(q: &[u8; 4 * TILE_ROWS], acts: [i8; 4], sums: &mut [i32; TILE_ROWS]) {
    let lanes: Lanes = bytemuck::cast(*q);
    for (i, &act) in acts.iter().enumerate() {
        let act = i32::from(act);
        for row in 0..TILE_ROWS {
            // Products of a byte each fit 16 bits and a sign: what `pmaddwd` multiplies.
            let q = (lanes[row] >> (8 * i) & 255) as i32;
            sums[row] += q * act;
        }
    }
}

/// See [`Kernel`].
unsafe fn float<S: FloatStep, const N: usize>(call: &Call) {
    // SAFETY: the caller vouches for the call's pointers, which advance here by exactly its
    // steps.
    unsafe {
        let mut acc: [FloatLanes; N] = std::array::from_fn(|t| start(call, t));
        let mut acts = call.acts;
        for index in 0..call.n_steps {
            let step = &*call.steps.cast::<S>().add(index);
            for col in 0..S::COLS {
                let w = step.column(col);
                for (t, acc) in acc.iter_mut().enumerate() {
                    let x = acts.cast::<f32>().add(t).read();
                    for row in 0..TILE_ROWS {
                        acc[row] += w[row] * x;
                    }
                }
                acts = acts.add(call.unit_stride);
            }
        }
        for (t, acc) in acc.iter().enumerate() {
            finish(call, t, acc);
        }
    }
}
