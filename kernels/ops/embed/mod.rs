//! `embed`: the rows of the embedding table that the tokens name.
//!
//! ```text
//! out[r, :] = scale · table[tokens[r], :]
//! ```

use crate::backend::Backend;

/// Arguments of [`Backend::embed`].
pub struct Embed<'a, B: Backend + ?Sized> {
    /// Token ids, one a row; each less than the table's rows.
    pub tokens: &'a [u32],
    /// The embedding table `[vocab, width]`.
    pub table: &'a B::Matrix,
    /// What each row is multiplied by (Gemma: √width).
    pub scale: f32,
    /// `[n_rows, width]`.
    pub out: &'a mut B::Buffer,
}
