//! What is known of a panel's lines after some pages.
//!
//! The state of a panel of `R` lines, in vectors of sixteen lanes:
//!
//! ```text
//! m                      the greatest score so far, a lane a line
//! R × [l | o]            l: Σ e^(s − m), by position modulo 16; o: Σ e^(s − m) · v
//! ```

use crate::cpu::math;
use crate::cpu::simd::{HalfLine, Kernel, LANES, Lanes, Line, Simd};

/// The score before any: below all that are finite sums, and finite, so that its difference
/// to itself is 0.
const NO_SCORE: f32 = f32::MIN / 2.0;

/// Vectors of a panel's state.
pub(super) fn len(height: usize, value_width: usize) -> usize {
    1 + height * (1 + value_width)
}

/// The state before the first page.
pub(super) fn clear(state: &mut [Line]) {
    state.fill(Line::ZERO);
    state[0] = Line([NO_SCORE; LANES]);
}

/// Adds the state of later positions to that of earlier ones.
pub(super) struct Merge<'a> {
    pub(super) height: usize,
    pub(super) state: &'a mut [Line],
    pub(super) later: &'a [Line],
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (before, after) = (self.state[0].lanes(s), self.later[0].lanes(s));
        let now = s.max(before, after);
        let (mut keep, mut take) = (Line::ZERO, Line::ZERO);
        s.store(math::exp(s, s.sub(before, now)), &mut keep.0);
        s.store(math::exp(s, s.sub(after, now)), &mut take.0);
        s.store(now, &mut self.state[0].0);
        let row_len = (self.state.len() - 1) / self.height;
        let rows = self.state[1..].chunks_exact_mut(row_len);
        for (r, (row, later)) in rows.zip(self.later[1..].chunks_exact(row_len)).enumerate() {
            let (keep, take) = (s.splat(keep.0[r]), s.splat(take.0[r]));
            for (line, later) in row.iter_mut().zip(later) {
                let taken = s.mul(later.lanes(s), take);
                s.store(s.fma(line.lanes(s), keep, taken), &mut line.0);
            }
        }
    }
}

/// Writes the output of one line of a panel: `o / Σ l`.
pub(super) struct Finish<'a> {
    /// The line's part of the state.
    pub(super) row: &'a [Line],
    /// `[head_dim]`.
    pub(super) out: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let total = s.splat(s.sum(self.row[0].lanes(s)));
        for (o, out) in self.row[1..].iter().zip(self.out.chunks_mut(LANES)) {
            // Adding 0 makes −0 of underflow 0, whether or not hidden positions did so before.
            let o = s.add(s.div(o.lanes(s), total), s.splat(0.0));
            s.store_chunk(o, out);
        }
    }
}

/// Converts lines of halves.
pub(super) struct Convert<'a> {
    pub(super) from: &'a [HalfLine],
    pub(super) to: &'a mut [Line],
}

impl Kernel for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (from, to) in self.from.iter().zip(self.to) {
            s.store(from.lanes(s), &mut to.0);
        }
    }
}
