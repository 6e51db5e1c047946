//! The arithmetic of attention on a panel: up to twelve lines (a line is one query head of one
//! row) that share a key head, against one page of the cache.
//!
//! The state of a panel is described in [`super::state`].
//!
//! Every line is computed as if it were alone: what a score, a sum or an output is made of, and
//! in which order, depends on positions only, never on `R` or on what the panel's other lines
//! see. A page that shows a line nothing leaves its state as it is, to the bit.

use crate::backend::PAGE_TOKENS;
use crate::cpu::Isa;
use crate::cpu::kv::KEY_TILES;
use crate::cpu::math;
use crate::cpu::simd::{Kernel, LANES, Lanes, Line, Simd, dispatch_narrow, dispatch_wide};

/// The lines of the tallest panel.
pub(super) fn tallest(isa: Isa) -> usize {
    if isa == Isa::Avx512 { 12 } else { 6 }
}

/// The height of the panel for the first of `n_lines` lines.
pub(super) fn height(isa: Isa, n_lines: usize) -> usize {
    let heights: &[usize] = if isa == Isa::Avx512 {
        &[1, 2, 3, 4, 6, 7, 8]
    } else {
        &[1, 2, 4]
    };
    let fitting = heights.iter().find(|&&height| height >= n_lines);
    fitting.copied().unwrap_or(tallest(isa))
}

/// One page, as a panel's lines see it.
#[derive(Clone, Copy)]
pub(super) struct Page<'a, E> {
    /// `[KEY_TILES][head_dim]`.
    pub(super) keys: &'a [E],
    /// `[value_width][PAGE_TOKENS]`.
    pub(super) values: &'a [E],
    /// Keys and values that will be read next: brought nearer meanwhile, since a page is too
    /// short for the machine to see where it goes on. May be empty.
    pub(super) next: (&'a [E], &'a [E]),
    /// The positions of the page that a line sees, a bit each; all of them if `None`.
    pub(super) visible: Option<&'a [u32]>,
    /// Bound of the scores.
    pub(super) soft_cap: Option<f32>,
}

/// Takes a page into the state of a panel with `queries` `[head_dim][height]`.
pub(super) fn absorb<E: Lanes>(
    isa: Isa,
    height: usize,
    queries: &[f32],
    page: Page<'_, E>,
    state: &mut [Line],
) {
    macro_rules! kernel {
        ($height:literal, $tiles:literal, $columns:literal) => {
            Absorb::<E, $height, $tiles, $columns> {
                queries: queries.as_chunks().0,
                page,
                state,
            }
        };
    }
    // Accumulators (lines × tiles, lines × columns) fill the registers without leaving them.
    match (isa == Isa::Avx512, height) {
        (true, 1) => dispatch_wide(kernel!(1, 2, 4)),
        (true, 2) => dispatch_wide(kernel!(2, 2, 4)),
        (true, 3) => dispatch_wide(kernel!(3, 2, 4)),
        (true, 4) => dispatch_wide(kernel!(4, 2, 4)),
        (true, 6) => dispatch_wide(kernel!(6, 2, 4)),
        (true, 7) => dispatch_wide(kernel!(7, 2, 2)),
        (true, 8) => dispatch_wide(kernel!(8, 2, 2)),
        (true, _) => dispatch_wide(kernel!(12, 2, 2)),
        (false, 1) => dispatch_narrow(isa, kernel!(1, 2, 2)),
        (false, 2) => dispatch_narrow(isa, kernel!(2, 1, 2)),
        (false, 4) => dispatch_narrow(isa, kernel!(4, 1, 1)),
        (false, _) => dispatch_narrow(isa, kernel!(6, 1, 1)),
    }
}

struct Absorb<'a, E, const R: usize, const T: usize, const C: usize> {
    queries: &'a [[f32; R]],
    page: Page<'a, E>,
    state: &'a mut [Line],
}

/// Scores, then weights, of a panel's lines for the positions of a page.
type Scores<const R: usize> = [[Line; KEY_TILES]; R];

impl<E: Lanes, const R: usize, const T: usize, const C: usize> Kernel for Absorb<'_, E, R, T, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut scores = [[Line::ZERO; KEY_TILES]; R];
        multiply_keys::<S, E, R, T>(s, self.queries, &self.page, &mut scores);
        if let Some(cap) = self.page.soft_cap {
            bound(s, cap, &mut scores);
        }
        let mut seen = u32::MAX;
        if let Some(visible) = self.page.visible {
            hide(s, visible, &mut scores);
            seen = visible.iter().fold(0, |seen, line| seen | line);
        }
        let (greatest, rows) = self.state.split_at_mut(1);
        let decay = weigh(s, &mut scores, &mut greatest[0], rows);
        let seen = Seen {
            weights: &scores,
            decay,
            first: seen.trailing_zeros() as usize,
            last: PAGE_TOKENS - seen.leading_zeros() as usize,
        };
        add_values::<S, E, R, C>(s, &self.page, &seen, rows);
    }
}

/// Scores of all positions: each a sum over the elements of a head in their order.
#[inline(always)]
fn multiply_keys<S: Simd, E: Lanes, const R: usize, const T: usize>(
    s: S,
    queries: &[[f32; R]],
    page: &Page<'_, E>,
    scores: &mut Scores<R>,
) {
    let head_dim = queries.len();
    let (keys, next) = (page.keys, page.next.0);
    for first in (0..KEY_TILES).step_by(T) {
        let mut tiles = [keys; T];
        for (t, tile) in tiles.iter_mut().enumerate() {
            *tile = &keys[(first + t) * head_dim..][..head_dim];
        }
        let mut sums = [[s.splat(0.0); T]; R];
        for (d, query) in queries.iter().enumerate() {
            if E::STORED && !next.is_empty() {
                s.prefetch(next.as_ptr().wrapping_add(first * head_dim + d * T));
            }
            let mut key = [s.splat(0.0); T];
            for t in 0..T {
                key[t] = tiles[t][d].lanes(s);
            }
            for r in 0..R {
                let q = s.splat(query[r]);
                for t in 0..T {
                    sums[r][t] = s.fma(q, key[t], sums[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                s.store(sums[r][t], &mut scores[r][first + t].0);
            }
        }
    }
}

/// `cap · tanh(score / cap)`.
#[inline(always)]
fn bound<S: Simd, const R: usize>(s: S, cap: f32, scores: &mut Scores<R>) {
    let (cap, inverse) = (s.splat(cap), s.splat(1.0 / cap));
    for score in scores.as_flattened_mut() {
        let bounded = math::tanh(s, s.mul(score.lanes(s), inverse));
        s.store(s.mul(cap, bounded), &mut score.0);
    }
}

/// −∞ for positions that a line does not see.
#[inline(always)]
fn hide<S: Simd, const R: usize>(s: S, visible: &[u32], scores: &mut Scores<R>) {
    let hidden = s.splat(f32::NEG_INFINITY);
    for (line, &visible) in scores.iter_mut().zip(visible) {
        for (t, score) in line.iter_mut().enumerate() {
            let mask = (visible >> (t * LANES)) as u16;
            s.store(s.select(mask, score.lanes(s), hidden), &mut score.0);
        }
    }
}

/// Makes weights e^(s − m) of the scores, with `m` the greatest so far, and adds them to `l`.
/// Returns what the former weights are to be multiplied by.
#[inline(always)]
fn weigh<S: Simd, const R: usize>(
    s: S,
    scores: &mut Scores<R>,
    greatest: &mut Line,
    rows: &mut [Line],
) -> Line {
    let mut top = *greatest;
    for (r, [a, b]) in scores.iter().enumerate() {
        top.0[r] = s.greatest(s.max(a.lanes(s), b.lanes(s)));
    }
    let before = greatest.lanes(s);
    let now = s.max(before, top.lanes(s));
    let mut decay = Line::ZERO;
    s.store(math::exp(s, s.sub(before, now)), &mut decay.0);
    s.store(now, &mut greatest.0);
    let row_len = rows.len() / R;
    for r in 0..R {
        let m = s.splat(greatest.0[r]);
        let a = math::exp(s, s.sub(scores[r][0].lanes(s), m));
        let b = math::exp(s, s.sub(scores[r][1].lanes(s), m));
        s.store(a, &mut scores[r][0].0);
        s.store(b, &mut scores[r][1].0);
        let sum = &mut rows[r * row_len];
        let faded = s.fma(sum.lanes(s), s.splat(decay.0[r]), s.add(a, b));
        s.store(faded, &mut sum.0);
    }
    decay
}

/// What weighs the values of a page.
struct Seen<'a, const R: usize> {
    weights: &'a Scores<R>,
    /// What the output so far is multiplied by, a lane a line.
    decay: Line,
    /// The positions that any line sees: from the first to before the last. Beyond may lie what
    /// another sequence left, which may be NaN.
    first: usize,
    last: usize,
}

/// `o ← o · decay + Σ weight · v`.
#[inline(always)]
fn add_values<S: Simd, E: Lanes, const R: usize, const C: usize>(
    s: S,
    page: &Page<'_, E>,
    seen: &Seen<'_, R>,
    rows: &mut [Line],
) {
    let width = rows.len() / R - 1;
    let mut column = 0;
    while column + C <= width {
        add_columns::<S, E, R, C>(s, page, seen, column, rows);
        column += C;
    }
    while column < width {
        add_columns::<S, E, R, 1>(s, page, seen, column, rows);
        column += 1;
    }
}

/// [`add_values`] for `C` vectors of the output.
#[inline(always)]
fn add_columns<S: Simd, E: Lanes, const R: usize, const C: usize>(
    s: S,
    page: &Page<'_, E>,
    seen: &Seen<'_, R>,
    column: usize,
    rows: &mut [Line],
) {
    let row_len = rows.len() / R;
    let mut sums = [[s.splat(0.0); C]; R];
    for r in 0..R {
        let decay = s.splat(seen.decay.0[r]);
        let out = &rows[r * row_len + 1 + column..][..C];
        for c in 0..C {
            sums[r][c] = s.mul(out[c].lanes(s), decay);
        }
    }
    let (values, next) = (page.values, page.next.1);
    let mut columns = [values; C];
    for (c, of_column) in columns.iter_mut().enumerate() {
        *of_column = &values[(column + c) * PAGE_TOKENS..][..PAGE_TOKENS];
    }
    for position in seen.first..seen.last.min(PAGE_TOKENS) {
        if E::STORED && !next.is_empty() {
            for line in (0..C).step_by(2) {
                let ahead = column * PAGE_TOKENS + position * C + line;
                s.prefetch(next.as_ptr().wrapping_add(ahead));
            }
        }
        let mut v = [s.splat(0.0); C];
        for c in 0..C {
            v[c] = columns[c][position].lanes(s);
        }
        for (sums, weights) in sums.iter_mut().zip(seen.weights) {
            let weights: &[f32; PAGE_TOKENS] = bytemuck::cast_ref(weights);
            let weight = s.splat(weights[position]);
            for c in 0..C {
                sums[c] = s.fma(weight, v[c], sums[c]);
            }
        }
    }
    for r in 0..R {
        let out = &mut rows[r * row_len + 1 + column..][..C];
        for c in 0..C {
            s.store(sums[r][c], &mut out[c].0);
        }
    }
}
