//! What the solvers ask of a method: a matrix M = AᵀA with one known null vector.

use crate::matrix::Lower;
use crate::panel::Panel;
use crate::{Control, Result};

/// A, as an operator, and M = AᵀA, as a sparse matrix.
///
/// A v keeps digits that M's entries have lost: wherever it can, an implementation subtracts before it
/// multiplies.
pub(crate) trait Operator: Sync {
    /// The columns of A: points.
    fn len(&self) -> usize;

    /// The rows of A.
    fn rows(&self) -> usize;

    /// The known null vector of M, one column of length 1. Eigenvectors are sought orthogonal to it.
    fn null_vector(&self) -> Panel;

    /// out = A v, column by column.
    fn apply(&self, v: &Panel, out: &mut Panel);

    /// out = Aᵀ u, column by column.
    fn apply_transposed(&self, u: &Panel, out: &mut Panel);

    /// The largest Mⱼⱼ.
    fn largest_diagonal(&self) -> f64;

    /// An upper bound on the entries of [`Operator::lower`].
    fn lower_entries_at_most(&self) -> usize;

    /// The lower triangle of M.
    fn lower(&self, control: &dyn Control) -> Result<Lower>;
}
