//! Weight matrices in tiles, stacked where they share an input.

use rayon::prelude::*;

use super::arena::{Arena, Slab};
use super::tiles::{self, TILE_ROWS};
use crate::backend::{Dimensions, MatrixSource};
use crate::error::{Error, Result};
use crate::quant::Format;

/// One or more weight matrices over the same input, in the layout of [`tiles`].
pub struct Matrix {
    parts: Vec<Part>,
    rows: usize,
    cols: usize,
}

/// The matrix of one tensor.
pub(crate) struct Part {
    pub(crate) format: Format,
    /// Rows of this part.
    pub(crate) rows: usize,
    /// Its first row in the stack.
    pub(crate) first_row: usize,
    tile_bytes: usize,
    data: Slab,
}

impl Part {
    /// Tiles of the part, the last one possibly with fewer than 16 rows.
    pub(crate) fn n_tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Bytes of each tile.
    pub(crate) fn tile_bytes(&self) -> usize {
        self.tile_bytes
    }

    /// One tile.
    pub(crate) fn tile(&self, index: usize) -> &[u8] {
        &self.data[index * self.tile_bytes..][..self.tile_bytes]
    }
}

impl Matrix {
    /// Re-tiles `sources`, which are the file's own bytes, in parallel.
    ///
    /// # Errors
    /// [`Error::Weight`] for a matrix without rows or columns, columns that differ from the first
    /// part's or are no whole number of blocks, data of another length than they need or that are
    /// no numbers; [`Error::OutOfMemory`].
    pub(crate) fn new(arena: &Arena, sources: &[MatrixSource<'_>]) -> Result<Matrix> {
        let cols = sources.first().map_or(0, |source| source.cols);
        let mut parts = Vec::with_capacity(sources.len());
        let mut rows = 0usize;
        for source in sources {
            if source.cols != cols {
                let found = source.cols;
                return Err(weight_error(
                    source,
                    format!("{found} columns instead of {cols}"),
                ));
            }
            parts.push(part(arena, source, rows)?);
            rows = rows
                .checked_add(source.rows)
                .ok_or_else(|| weight_error(source, "too many rows".into()))?;
        }
        Ok(Matrix { parts, rows, cols })
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of all tiles.
    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.data.len()).sum()
    }

    /// Decodes one row into `out`, one value a column.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        for part in &self.parts {
            if let Some(row) = index.checked_sub(part.first_row)
                && row < part.rows
            {
                let tile = part.tile(row / TILE_ROWS);
                tiles::row(part.format, tile, row % TILE_ROWS, out);
            }
        }
    }
}

impl Dimensions for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

fn part(arena: &Arena, source: &MatrixSource<'_>, first_row: usize) -> Result<Part> {
    let MatrixSource {
        format,
        rows,
        cols,
        data,
        ..
    } = *source;
    if rows == 0 || cols == 0 {
        return Err(weight_error(source, format!("{rows} × {cols} is empty")));
    }
    let row_bytes = format.row_bytes(cols).ok_or_else(|| {
        weight_error(
            source,
            format!("{cols} columns are no whole number of {format} blocks"),
        )
    })?;
    if row_bytes.checked_mul(rows) != Some(data.len()) {
        let found = data.len();
        let detail = format!("{found} bytes are not {rows} rows of {row_bytes} bytes");
        return Err(weight_error(source, detail));
    }
    let tile_bytes = tiles::tile_bytes(format, cols);
    let sizes =
        tile_bytes.and_then(|tile| Some((tile, tile.checked_mul(rows.div_ceil(TILE_ROWS))?)));
    let (tile_bytes, bytes) =
        sizes.ok_or_else(|| weight_error(source, "too large for memory".into()))?;
    let mut checked = Ok(());
    let data = arena.fill(bytes, |out| {
        checked = out
            .par_chunks_exact_mut(tile_bytes)
            .zip(data.par_chunks(TILE_ROWS * row_bytes))
            .try_for_each(|(tile, rows)| {
                tiles::retile(format, rows, row_bytes, tile);
                source.check_weights(rows)
            });
    })?;
    checked?;
    Ok(Part {
        format,
        rows,
        first_row,
        tile_bytes,
        data,
    })
}

fn weight_error(source: &MatrixSource<'_>, detail: String) -> Error {
    Error::Weight {
        tensor: source.name.into(),
        detail,
    }
}
