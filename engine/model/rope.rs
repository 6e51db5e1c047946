//! Rotary frequencies and the ways in which families stretch them.

/// How the frequencies of a rotary embedding are changed for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scaling {
    /// As trained.
    None,
    /// Positions divided by `factor` (Chen et al. 2023).
    Linear {
        /// How much longer the context became.
        factor: f32,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a smooth passage between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f32,
        /// Wavelengths above `original_context / low` count as low.
        low_frequency_factor: f32,
        /// Wavelengths below `original_context / high` count as high.
        high_frequency_factor: f32,
        /// The context before stretching.
        original_context: f32,
    },
}

/// `1 / base^(2j/dim)` for `j < dim/2`, scaled.
pub(super) fn inverse_frequencies(base: f32, dim: usize, scaling: Scaling) -> Vec<f32> {
    (0..dim / 2)
        .map(|j| 1.0 / base.powf((2 * j) as f32 / dim as f32))
        .map(|frequency| scaling.apply(frequency))
        .collect()
}

impl Scaling {
    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                let wavelength = 2.0 * std::f32::consts::PI / frequency;
                if wavelength < original_context / high {
                    frequency
                } else if wavelength > original_context / low {
                    frequency / factor
                } else {
                    let smooth = (original_context / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}
