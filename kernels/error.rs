//! What can go wrong below the engine.

/// The result of an operation or an upload.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a kernel, a buffer or a device; one sentence that names the operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Arguments whose shapes do not fit each other, found before anything is computed.
    #[error("{op}: {detail}")]
    Shape {
        /// The operation, as the registry names it.
        op: &'static str,
        /// Which shape, what it is and what it should be.
        detail: String,
    },
    /// A weight tensor that this backend cannot hold or compute on.
    #[error("tensor {tensor}: {detail}")]
    Weight {
        /// The tensor's name in its file.
        tensor: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The logits of a row hold NaN or +inf, so no distribution follows from them.
    #[error("the logits hold {what} at token {token}: the weights or the activations are broken")]
    NotFinite {
        /// The first token id concerned.
        token: usize,
        /// `NaN` or `+inf`.
        what: &'static str,
    },
    /// A parameter outside its range.
    #[error("{0}")]
    Parameter(String),
    /// Memory that could not be had.
    #[error("{what} needs {bytes} bytes, which this device cannot give")]
    OutOfMemory {
        /// What the memory was for.
        what: &'static str,
        /// How much was asked for.
        bytes: usize,
    },
    /// The device or its driver failed.
    #[error("{device}: {detail}")]
    Device {
        /// Which device.
        device: String,
        /// What it said.
        detail: String,
    },
}
