//! What can go wrong in a fit, in words that name the row or value and the remedy.

/// Errors of this crate. Row numbers count from 0 in the matrix that was passed in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifoldError {
    /// A parameter that no data could make valid.
    #[error("{name} must be {requirement}, got {value}")]
    InvalidParameter {
        /// The parameter's public name.
        name: &'static str,
        /// What was passed.
        value: String,
        /// What is accepted.
        requirement: String,
    },
    /// A parameter that this data makes impossible.
    #[error("{name} = {value} needs {requirement}, found {found}: {remedy}")]
    ParameterNeedsMoreData {
        /// The parameter's public name.
        name: &'static str,
        /// What was passed.
        value: usize,
        /// What the parameter needs of the data.
        requirement: String,
        /// What the data has.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A feature that is NaN or infinite.
    #[error(
        "row {row} has {value} in dimension {dimension} (counted from 0): features must be finite, \
         filter the row out or replace the value"
    )]
    NonFinite {
        /// Row of the input matrix.
        row: usize,
        /// Column of the input matrix.
        dimension: usize,
        /// The value found there.
        value: f64,
    },
    /// Features so large that their squared distances overflow.
    #[error(
        "row {row} has {value:e} in dimension {dimension} (counted from 0): squared distances would \
         overflow, scale the features down"
    )]
    TooLarge {
        /// Row of the input matrix.
        row: usize,
        /// Column of the input matrix.
        dimension: usize,
        /// The value found there.
        value: f64,
    },
    /// A row without a direction, where only directions count.
    #[error(
        "row {row} is all zeros and has no direction: its cosine distance to anything is undefined, \
         filter the row out or choose metric 'l2' or 'inner_product'"
    )]
    ZeroVector {
        /// Row of the input matrix.
        row: usize,
    },
    /// Bytes that are no index, or no longer one.
    #[error("the index is damaged: {detail}; build it again")]
    DamagedIndex {
        /// What is wrong with it.
        detail: String,
    },
    /// The caller's memory budget refused an allocation.
    #[error("{0}")]
    Memory(#[from] crate::ReserveError),
    /// The caller asked to stop.
    #[error("the fit was cancelled")]
    Cancelled,
    /// The eigensolver did not reach its tolerance; no embedding is returned.
    #[error(
        "the {solver} eigensolver did not converge: {detail}; raise reg or n_neighbors, lower \
         n_components, or choose another solver"
    )]
    NoConvergence {
        /// Which solver.
        solver: &'static str,
        /// How far it came.
        detail: String,
    },
    /// A failure inside the linear algebra libraries.
    #[error("linear algebra failed in {operation}: {detail}")]
    LinearAlgebra {
        /// What was being computed.
        operation: &'static str,
        /// The library's own message.
        detail: String,
    },
}

/// The result type of this crate.
pub type Result<T, E = ManifoldError> = std::result::Result<T, E>;
