//! What can go wrong in an attention kernel.

/// Errors of this crate. Positions count from 0 in the slice that was passed in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// A score that is not a number, so that no weight is right for it.
    #[error("score {position} (counted from 0) is NaN")]
    NanScore {
        /// Index into the scores.
        position: usize,
    },
    /// A temperature that no scores could be divided by.
    #[error("temperature must be a finite number greater than 0, got {temperature}")]
    InvalidTemperature {
        /// What was passed.
        temperature: f64,
    },
}

/// The result type of this crate.
pub type Result<T, E = AttentionError> = std::result::Result<T, E>;
