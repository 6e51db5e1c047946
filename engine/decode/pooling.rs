//! A text as one vector: the mean of its hidden states.

use crate::error::Result;

/// Hears of the vector, or why there is none.
pub(crate) type Done<'s> = Box<dyn FnOnce(Result<Vec<f32>>) + 's>;

/// A text whose vector is being computed.
pub(crate) struct Pooling<'s> {
    sum: Vec<f64>,
    done: Done<'s>,
}

impl<'s> Pooling<'s> {
    /// Of a text for a model of this width.
    pub(crate) fn new(width: usize, done: Done<'s>) -> Self {
        Self {
            sum: vec![0.0; width],
            done,
        }
    }

    /// Adds hidden states, row by row.
    pub(crate) fn add(&mut self, hidden: &[f32]) {
        for row in hidden.chunks_exact(self.sum.len()) {
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
        pooling.add(&[1.0, 0.0, 2.0, 3.0]);
        pooling.add(&[3.0, 5.0]);
        pooling.finish();
        let length = (6.0_f32 * 6.0 + 8.0 * 8.0).sqrt();
        assert_eq!(told.unwrap(), [6.0 / length, 8.0 / length]);
    }
}
