//! Some rows of a sequence and the query heads that share one key head.

use std::ops::Range;

use super::panel::{self, Page};
use super::state::{self, Convert, Finish, Merge};
use super::{Job, SPLIT_PAGES};
use crate::backend::{PAGE_TOKENS, Span};
use crate::cpu::memory::Shared;
use crate::cpu::simd::{HalfLine, LANES, Lanes, Line, dispatch};

/// See the module's description.
pub(super) struct Tile<'a> {
    job: &'a Job<'a>,
    span: &'a Span,
    /// Rows of the batch.
    rows: Range<usize>,
    kv_head: usize,
    /// Query heads that share the key head.
    group: usize,
    /// Vectors of a value.
    value_width: usize,
}

/// Consecutive lines of a tile.
struct Panel {
    /// The lines there are; a panel may be higher.
    lines: Range<usize>,
    height: usize,
    /// Its vectors in the tile's state.
    state: Range<usize>,
}

impl<'a> Tile<'a> {
    pub(super) fn new(
        job: &'a Job<'a>,
        span: &'a Span,
        rows: Range<usize>,
        kv_head: usize,
    ) -> Self {
        Tile {
            job,
            span,
            rows,
            kv_head,
            group: job.n_heads / job.n_kv_heads,
            value_width: job.kv.place(job.layer).value_width(),
        }
    }

    fn n_lines(&self) -> usize {
        self.rows.len() * self.group
    }

    /// Row of the batch and query head of a line.
    fn row_and_head(&self, line: usize) -> (usize, usize) {
        let head = self.kv_head * self.group + line % self.group;
        (self.rows.start + line / self.group, head)
    }

    /// The positions that a line sees.
    fn visible(&self, line: usize) -> Range<usize> {
        let (row, _) = self.row_and_head(line);
        let (start, rows) = (self.span.position, &self.span.rows);
        let position = start + row - rows.start;
        self.job.mask.visible(position, start + rows.len())
    }

    /// The pages of which any line sees something.
    fn pages(&self) -> Range<usize> {
        let first = self.visible(0).start / PAGE_TOKENS;
        let last = self.visible(self.n_lines() - 1).end.div_ceil(PAGE_TOKENS);
        first..last
    }

    /// Whether every line sees all of a page, as is so for most pages of a long sequence.
    fn is_open(&self, page: usize) -> bool {
        let (first, last) = (self.visible(0), self.visible(self.n_lines() - 1));
        last.start <= page * PAGE_TOKENS && (page + 1) * PAGE_TOKENS <= first.end
    }

    /// The splits of which any line sees something.
    pub(super) fn splits(&self) -> Range<usize> {
        let pages = self.pages();
        pages.start / SPLIT_PAGES..pages.end.div_ceil(SPLIT_PAGES)
    }

    /// A measure of the work.
    pub(super) fn cost(&self) -> usize {
        self.pages().len() * self.n_lines()
    }

    fn panels(&self) -> impl Iterator<Item = Panel> {
        let n_lines = self.n_lines();
        let (mut line, mut at) = (0, 0);
        std::iter::from_fn(move || {
            let height = panel::height(self.job.isa, n_lines - line);
            let panel = Panel {
                lines: line..n_lines.min(line + height),
                height,
                state: at..at + state::len(height, self.value_width),
            };
            (line, at) = (panel.lines.end, panel.state.end);
            (!panel.lines.is_empty()).then_some(panel)
        })
    }

    /// Vectors of the tile's state: its panels' states.
    pub(super) fn state_len(&self) -> usize {
        self.panels().last().map_or(0, |panel| panel.state.end)
    }

    fn query_lines(&self) -> usize {
        let padded = self.n_lines() + panel::tallest(self.job.isa);
        (padded * self.job.head_dim).div_ceil(LANES)
    }

    /// Vectors of working memory: queries and a converted page.
    pub(super) fn work_len(&self) -> usize {
        let place = self.job.kv.place(self.job.layer);
        self.query_lines() + place.key_lines() + PAGE_TOKENS * self.value_width
    }

    /// Puts the scaled queries into working memory, `[head_dim][height]` for each panel.
    pub(super) fn begin(&self, work: &mut [Line]) {
        let job = self.job;
        let queries: &mut [f32] = bytemuck::cast_slice_mut(&mut work[..self.query_lines()]);
        let row_width = (job.n_heads + 2 * job.n_kv_heads) * job.head_dim;
        for panel in self.panels() {
            let queries = &mut queries[panel.lines.start * job.head_dim..];
            let queries = &mut queries[..panel.height * job.head_dim];
            queries.fill(0.0);
            for (r, line) in panel.lines.enumerate() {
                let (row, head) = self.row_and_head(line);
                let query = &job.qkv[row * row_width + head * job.head_dim..][..job.head_dim];
                let places = queries[r..].iter_mut().step_by(panel.height);
                for (place, &q) in places.zip(query) {
                    *place = q * job.scale;
                }
            }
        }
    }

    /// Computes the state after the positions of one split, after [`Tile::begin`].
    pub(super) fn attend(&self, split: usize, state: &mut [Line], work: &mut [Line]) {
        let (queries, converted) = work.split_at_mut(self.query_lines());
        let queries: &[f32] = bytemuck::cast_slice(queries);
        let alone = self.panels().nth(1).is_none();
        for panel in self.panels() {
            state::clear(&mut state[panel.state]);
        }
        let pages = self.pages();
        let first = pages.start.max(split * SPLIT_PAGES);
        let last = pages.end.min((split + 1) * SPLIT_PAGES);
        for page in first..last {
            let (keys, values) = self.stored(page);
            let soft_cap = self.job.soft_cap;
            if alone {
                let next = if page + 1 < pages.end {
                    self.stored(page + 1)
                } else {
                    Default::default()
                };
                let lines = Page {
                    keys,
                    values,
                    next,
                    visible: None,
                    soft_cap,
                };
                self.absorb(page, lines, queries, state);
            } else {
                let (to_keys, to_values) = converted.split_at_mut(keys.len());
                for (from, to) in [(keys, &mut *to_keys), (values, &mut *to_values)] {
                    dispatch(self.job.isa, Convert { from, to });
                }
                let (keys, values) = (&*to_keys, &*to_values);
                let next = Default::default();
                let lines = Page {
                    keys,
                    values,
                    next,
                    visible: None,
                    soft_cap,
                };
                self.absorb(page, lines, queries, state);
            }
        }
    }

    /// Keys and values of a page.
    fn stored(&self, page: usize) -> (&[HalfLine], &[HalfLine]) {
        let page = self.span.block_table[page];
        self.job.kv.head(self.job.layer, page, self.kv_head)
    }

    /// Takes a page into the states of the panels that see something of it.
    fn absorb<E: Lanes>(
        &self,
        page: usize,
        lines: Page<'_, E>,
        queries: &[f32],
        state: &mut [Line],
    ) {
        let head_dim = self.job.head_dim;
        let open = self.is_open(page);
        for panel in self.panels() {
            let mut visible = [u32::MAX; LANES];
            let visible = &mut visible[..panel.height];
            if !open {
                self.look(page, &panel, visible);
            }
            if visible.iter().all(|&line| line == 0) {
                continue;
            }
            let lines = Page {
                visible: (!open).then_some(&*visible),
                ..lines
            };
            let queries = &queries[panel.lines.start * head_dim..];
            let queries = &queries[..panel.height * head_dim];
            let state = &mut state[panel.state];
            panel::absorb(self.job.isa, panel.height, queries, lines, state);
        }
    }

    /// Which positions of a page each line of a panel sees. Lines that are only there to fill
    /// the panel see what the last one does.
    fn look(&self, page: usize, panel: &Panel, visible: &mut [u32]) {
        for (r, mask) in visible.iter_mut().enumerate() {
            let seen = self.visible((panel.lines.start + r).min(panel.lines.end - 1));
            let in_page = |position: usize| {
                position.saturating_sub(page * PAGE_TOKENS).min(PAGE_TOKENS) as u32
            };
            let below = |n: u32| ((1_u64 << n) - 1) as u32;
            *mask = below(in_page(seen.end)) & !below(in_page(seen.start));
        }
    }

    /// Adds the state of a later split.
    pub(super) fn merge(&self, state: &mut [Line], later: &[Line]) {
        for panel in self.panels() {
            dispatch(
                self.job.isa,
                Merge {
                    height: panel.height,
                    state: &mut state[panel.state.clone()],
                    later: &later[panel.state],
                },
            );
        }
    }

    /// Writes the tile's part of the output `[n_rows, n_heads · head_dim]`.
    pub(super) fn finish(&self, state: &[Line], out: &Shared<'_, f32>) {
        let head_dim = self.job.head_dim;
        for panel in self.panels() {
            let rows = state[panel.state][1..].chunks_exact(1 + self.value_width);
            for (line, row) in panel.lines.zip(rows) {
                let (batch_row, head) = self.row_and_head(line);
                let start = (batch_row * self.job.n_heads + head) * head_dim;
                // SAFETY: every line of every tile has its own part of the output.
                let out = unsafe { out.part(start..start + head_dim) };
                dispatch(self.job.isa, Finish { row, out });
            }
        }
    }
}
