//! A text as one vector: the mean of its hidden states.

use crate::error::Result;

/// Hears of the vector, or why there is none.
pub(crate) type Done<'s> = Box<dyn FnOnce(Result<Vec<f32>>) + 's>;

/// A text whose vector is being computed.
pub(crate) struct Pooling<'s> {
    sum: Vec<f64>,
    /// Rows that are in the sum.
    n_rows: usize,
    done: Done<'s>,
}

impl<'s> Pooling<'s> {
    /// Of a text for a model of this width.
    pub(crate) fn new(width: usize, done: Done<'s>) -> Self {
        Self {
            sum: vec![0.0; width],
            n_rows: 0,
            done,
        }
    }

    /// Adds hidden states, row by row, the first of them that of position `first`. A text that was
    /// preempted is read again in parts; what is in the sum already is left out.
    pub(crate) fn add(&mut self, first: usize, hidden: &[f32]) {
        let rows = hidden.chunks_exact(self.sum.len());
        let n_known = self.n_rows.saturating_sub(first);
        self.n_rows = self.n_rows.max(first + rows.len());
        for row in rows.skip(n_known) {
            for (sum, &value) in self.sum.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
    }

    /// Tells the sum's direction, as a vector of length 1: that of the mean.
    pub(crate) fn finish(self) {
        let length = self.sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if length > 0.0 { length.recip() } else { 0.0 };
        (self.done)(Ok(self.sum.iter().map(|x| (x * scale) as f32).collect()));
    }

    /// Tells why there is no vector.
    pub(crate) fn fail(self, error: crate::Error) {
        (self.done)(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_is_the_normalised_mean() {
        let mut told = None;
        let done = Box::new(|vector: Result<Vec<f32>>| told = Some(vector.unwrap()));
        let mut pooling = Pooling::new(2, done);
        pooling.add(0, &[1.0, 0.0, 2.0, 3.0]);
        pooling.add(1, &[2.0, 3.0, 3.0, 5.0]);
        pooling.finish();
        let length = (6.0_f32 * 6.0 + 8.0 * 8.0).sqrt();
        assert_eq!(told.unwrap(), [6.0 / length, 8.0 / length]);
    }
}
