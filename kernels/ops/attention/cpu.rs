//! `attention` on the CPU.
//!
//! A *tile* is some rows of one sequence and the query heads that share one key head; its
//! *lines* (a query head of a row each) go through the pages in panels ([`panel`]). A page is
//! converted to f32 once a tile, unless one panel holds the whole tile.
//!
//! The positions of a sequence are cut into *splits* of [`SPLIT_PAGES`] pages. A split begins
//! with an empty state, and the states of the splits are merged in their order, always. So it
//! makes no difference to the result whether one worker goes through a tile or several share
//! its splits, as they do when there are few tiles: a decoding sequence has one a key head.

mod panel;
mod state;
#[cfg(test)]
mod tests;
mod tile;

use std::cmp::Reverse;

use super::{Attention, Mask};
use crate::cpu::memory::{Shared, with_scratch};
use crate::cpu::{Cpu, Isa, KvCache};

use tile::Tile;

/// Pages of a split.
const SPLIT_PAGES: usize = 8;
/// Lines that a tile should have at most, if a group of heads has not more.
const TILE_LINES: usize = 96;
/// Tiles a thread, below which workers share the splits of a tile.
const TILES_PER_THREAD: usize = 4;

/// What all tiles have in common.
struct Job<'a> {
    isa: Isa,
    qkv: &'a [f32],
    kv: &'a KvCache,
    layer: usize,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    scale: f32,
    soft_cap: Option<f32>,
    mask: Mask,
}

pub(crate) fn run(cpu: &Cpu, op: Attention<'_, Cpu>) {
    let job = Job {
        isa: cpu.isa,
        qkv: op.qkv,
        kv: op.kv,
        layer: op.layer,
        n_heads: op.n_heads,
        n_kv_heads: op.n_kv_heads,
        head_dim: op.head_dim,
        scale: op.scale,
        soft_cap: op.soft_cap,
        mask: op.mask,
    };
    let n_threads = cpu.n_threads();
    let tiles = tiles(&job, &op, n_threads);
    let out = &mut op.out[..op.batch.n_rows() * op.n_heads * op.head_dim];
    let out = Shared::new(out);
    let many = tiles.len() >= TILES_PER_THREAD * n_threads;
    if n_threads == 1 || many || tiles.iter().all(|tile| tile.splits().len() <= 1) {
        cpu.pool.each(tiles.len(), |i| whole_tile(&tiles[i], &out));
    } else {
        share_splits(cpu, &tiles, &out);
    }
}

/// The tiles of a batch, those with the most work first.
fn tiles<'a>(job: &'a Job<'a>, op: &Attention<'a, Cpu>, n_threads: usize) -> Vec<Tile<'a>> {
    let group = op.n_heads / op.n_kv_heads;
    let n_lines = op.batch.n_rows() * op.n_heads;
    let wanted = n_lines / (TILES_PER_THREAD * n_threads);
    let tile_rows = tile_rows(group, panel::tallest(job.isa), wanted.min(TILE_LINES));
    let mut tiles = Vec::new();
    for span in &op.batch.spans {
        for first in span.rows.clone().step_by(tile_rows) {
            let rows = first..span.rows.end.min(first + tile_rows);
            for kv_head in 0..op.n_kv_heads {
                tiles.push(Tile::new(job, span, rows.clone(), kv_head));
            }
        }
    }
    tiles.sort_by_key(|tile| Reverse(tile.cost()));
    tiles
}

/// The rows of a tile of about `wanted` lines, whole panels if possible.
fn tile_rows(group: usize, tallest: usize, wanted: usize) -> usize {
    let whole = (1..=tallest).find(|rows| (rows * group).is_multiple_of(tallest));
    let whole = whole.unwrap_or(tallest);
    whole * (wanted / (whole * group)).max(1)
}

/// Computes a tile, one split after the other.
fn whole_tile(tile: &Tile<'_>, out: &Shared<'_, f32>) {
    let len = tile.state_len();
    with_scratch(2 * len + tile.work_len(), |lines| {
        let (state, lines) = lines.split_at_mut(len);
        let (later, work) = lines.split_at_mut(len);
        tile.begin(work);
        let mut splits = tile.splits();
        if let Some(first) = splits.next() {
            tile.attend(first, state, work);
        }
        for split in splits {
            tile.attend(split, later, work);
            tile.merge(state, later);
        }
        tile.finish(state, out);
    });
}

/// Computes tiles with a task for every split of each.
fn share_splits(cpu: &Cpu, tiles: &[Tile<'_>], out: &Shared<'_, f32>) {
    let mut tasks = Vec::new();
    let mut starts = Vec::with_capacity(tiles.len());
    let mut n_lines = 0;
    for tile in tiles {
        starts.push(n_lines);
        for split in tile.splits() {
            tasks.push((tile, split, n_lines..n_lines + tile.state_len()));
            n_lines += tile.state_len();
        }
    }
    with_scratch(n_lines, |states| {
        let states = Shared::new(states);
        cpu.pool.each(tasks.len(), |i| {
            let (tile, split, lines) = &tasks[i];
            // SAFETY: tasks have different states.
            let state = unsafe { states.part(lines.clone()) };
            with_scratch(tile.work_len(), |work| {
                tile.begin(work);
                tile.attend(*split, state, work);
            });
        });
        cpu.pool.each(tiles.len(), |i| {
            let (tile, start) = (&tiles[i], starts[i]);
            let len = tile.state_len();
            // SAFETY: tiles have different states.
            let states = unsafe { states.part(start..start + len * tile.splits().len()) };
            let (state, later) = states.split_at_mut(len);
            for later in later.chunks_exact(len) {
                tile.merge(state, later);
            }
            tile.finish(state, out);
        });
    });
}
