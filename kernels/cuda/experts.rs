//! The matrices of experts on a GPU: for each part of the stack the tiles of all experts, one
//! expert behind the other, each beginning with a tile of its own.

use super::abi::MATMUL_TILE_ROWS;
use super::backend::Cuda;
use super::layout::tiling;
use super::matrix::{Part, stackable};
use crate::backend::{ExpertStack, MatrixSource};
use crate::error::Result;
use crate::ops::moe_matmul::{OP, check_alike};
use crate::ops::narrow;

/// For each expert, matrices over the same input, stacked along their rows.
#[derive(Debug)]
pub struct Experts {
    parts: Vec<ExpertPart>,
    n_experts: usize,
    rows: usize,
    cols: usize,
}

/// Rows of one format of all experts.
#[derive(Debug)]
pub(crate) struct ExpertPart {
    /// The shape and the place of the first expert's.
    pub(crate) part: Part,
    /// Bytes from the integers, or the rows of F32, of an expert to the next one's.
    pub(crate) quants_stride: u64,
    /// Bytes from the scales of an expert to the next one's.
    pub(crate) scales_stride: u64,
}

impl Experts {
    /// Takes the matrices of experts over.
    ///
    /// # Errors
    /// Experts unlike each other, sources that do not fit together, no memory, or what the driver
    /// says.
    pub(super) fn new(cuda: &Cuda, experts: &[Vec<MatrixSource<'_>>]) -> Result<Self> {
        check_alike(experts)?;
        let (mut rows, mut cols) = (0, 0);
        for sources in experts {
            (rows, cols) = MatrixSource::stacked(sources)?;
        }
        narrow(OP, cols)?;
        let mut parts = Vec::new();
        let (mut first_row, mut at) = (0, 0);
        while let Some(rest) = experts[0].get(at..).filter(|rest| !rest.is_empty()) {
            let n_stacked = stackable(rest);
            let stacks: Vec<_> = (experts.iter())
                .map(|sources| &sources[at..at + n_stacked])
                .collect();
            let part = ExpertPart::new(cuda, &stacks, first_row)?;
            first_row += part.part.n_rows;
            parts.push(part);
            at += n_stacked;
        }
        Ok(Self {
            parts,
            n_experts: experts.len(),
            rows,
            cols,
        })
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.part.bytes()).sum()
    }

    /// The stack.
    pub(crate) fn parts(&self) -> &[ExpertPart] {
        &self.parts
    }
}

impl ExpertStack for Experts {
    fn n_experts(&self) -> usize {
        self.n_experts
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }
}

impl ExpertPart {
    /// Each of `stacks` is an expert's, of one format, and fills the tiles before its last source.
    fn new(cuda: &Cuda, stacks: &[&[MatrixSource<'_>]], first_row: u32) -> Result<Self> {
        let (rows, cols) = MatrixSource::stacked(stacks[0])?;
        let (format, n_rows) = (stacks[0][0].format, narrow(OP, rows)?);
        let Some(tiling) = tiling(format) else {
            let part = Part::rows(cuda, &stacks.concat(), first_row, n_rows)?;
            return Ok(Self {
                part,
                quants_stride: (rows * cols * size_of::<f32>()) as u64,
                scales_stride: 0,
            });
        };
        let part = Part::empty(cuda, format, (rows, cols), first_row, stacks.len())?;
        let n_tiles = part.n_tiles();
        let mut first_of_expert = 0;
        for stack in stacks {
            let mut first = first_of_expert;
            for source in *stack {
                part.retile(cuda, &tiling, source, first, &mut |_| ())?;
                first += narrow(OP, source.rows)?;
            }
            first_of_expert += n_tiles * MATMUL_TILE_ROWS;
        }
        let n_steps = u64::from(n_tiles) * u64::from(part.n_steps);
        Ok(Self {
            part,
            quants_stride: n_steps * u64::from(tiling.step_bytes),
            scales_stride: n_steps / u64::from(tiling.record_steps)
                * u64::from(tiling.record_bytes),
        })
    }
}
