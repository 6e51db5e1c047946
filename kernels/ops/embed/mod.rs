//! `embed`: the rows of the embedding table that the tokens name.
//!
//! ```text
//! out[r, :] = scale · table[tokens[r], :]
//! ```

pub mod cases;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod reference;

use super::{check_room, shape_error};
use crate::backend::{Backend, Batch, Dimensions};
use crate::error::Result;

/// The operation's name in errors and in the registry.
pub const OP: &str = "embed";

/// Arguments of [`Backend::embed`].
pub struct Embed<'a, B: Backend + ?Sized> {
    /// Its token ids, one a row; each less than the table's rows.
    pub batch: &'a Batch,
    /// The embedding table `[vocab, width]`.
    pub table: &'a B::Matrix,
    /// What each row is multiplied by (Gemma: √width).
    pub scale: f32,
    /// `[n_rows, width]`.
    pub out: &'a mut B::Buffer,
}

impl<B: Backend + ?Sized> Embed<'_, B> {
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for a token outside the table or an `out` too small.
    pub fn check(&self) -> Result<()> {
        let (vocab, width) = (self.table.rows(), self.table.cols());
        if let Some(token) = self.batch.tokens.iter().find(|&&t| t as usize >= vocab) {
            let detail = format!("token {token} is outside the table of {vocab} rows");
            return Err(shape_error(OP, detail));
        }
        check_room(OP, "out", &*self.out, &[self.batch.n_rows(), width])
    }
}
