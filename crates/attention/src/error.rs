//! What can go wrong in an attention kernel.

/// Errors of this crate. Positions count from 0 in what was passed in.
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
    /// A score of NaN or +∞: the weights that it would give are not numbers. In a sequence also one of −∞, where no
    /// other key has a weight and no mask asked for it.
    #[error(
        "the score of {} is {score}; remove NaN and infinity from query, key and mask, or lower the scale",
        pair(*.head, *.query, *.key)
    )]
    InvalidScore {
        /// The query's head, where there are several.
        head: Option<usize>,
        /// The query's row, where there are several.
        query: Option<usize>,
        /// The key's row.
        key: usize,
        /// NaN, +∞ or −∞.
        score: f64,
    },
    /// A value of NaN or infinity that has a weight.
    #[error(
        "the values that {} may see give {value} in column {column}; remove NaN and infinity from the values",
        place(*.head, *.query)
    )]
    InvalidValue {
        /// The query's head, where there are several.
        head: Option<usize>,
        /// The query's row.
        query: usize,
        /// The column of the values.
        column: usize,
        /// Their mean: NaN, +∞ or −∞.
        value: f64,
    },
    /// A vector, matrix or mask of the wrong size.
    #[error("{name} must be {expected}, got {found}")]
    Shape {
        /// Which argument.
        name: &'static str,
        /// The size that fits the other arguments.
        expected: String,
        /// The size that was passed.
        found: String,
    },
    /// A parameter outside its range.
    #[error("{name} must be {requirement}, got {found}")]
    InvalidParameter {
        /// Which parameter, by the name that users know.
        name: &'static str,
        /// What is allowed.
        requirement: String,
        /// What was passed.
        found: String,
    },
    /// The parts of a state that no rows could have produced.
    #[error("a state of attention holds {found}; it was not written by this aggregate")]
    InvalidState {
        /// What is wrong with it.
        found: String,
    },
}

fn place(head: Option<usize>, query: usize) -> String {
    match head {
        Some(head) => format!("query {query} of head {head} (counted from 0)"),
        None => format!("query {query} (counted from 0)"),
    }
}

fn pair(head: Option<usize>, query: Option<usize>, key: usize) -> String {
    match (head, query) {
        (Some(head), Some(query)) => {
            format!("query {query} and key {key} of head {head} (counted from 0)")
        }
        (_, Some(query)) => format!("query {query} and key {key} (counted from 0)"),
        (_, None) => format!("key {key} (counted from 0)"),
    }
}

impl AttentionError {
    /// [`Self::Shape`] unless `found` is `expected`.
    pub(crate) fn check_size(
        name: &'static str,
        what: &str,
        expected: usize,
        found: usize,
    ) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        Err(Self::Shape {
            name,
            expected: format!("{expected} {what}"),
            found: found.to_string(),
        })
    }
}

/// The result type of this crate.
pub type Result<T, E = AttentionError> = std::result::Result<T, E>;
