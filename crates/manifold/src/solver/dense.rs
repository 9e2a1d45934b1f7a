//! LAPACK's symmetric eigensolver on the whole matrix.

use std::sync::Once;

use ndarray::Array2;
use ndarray_linalg::{Eigh, UPLO};

use super::{Operator, Request};
use crate::control::stop_if_cancelled;
use crate::panel::Panel;
use crate::{ManifoldError, Phase, Result};

unsafe extern "C" {
    fn openblas_set_num_threads(threads: std::ffi::c_int);
}

/// At this many rows LAPACK takes about four minutes.
pub(super) const MOST_POINTS: usize = 6000;

/// What LAPACK is predicted to take.
pub(super) fn seconds(n: usize) -> f64 {
    1e-9 * (n as f64).powi(3)
}

/// Whether LAPACK, at O(n³), is predicted to be faster than the sparse solver, whose cost at sizes where
/// this is a question grows with n and with the blocks of vectors it iterates on. The factors are from
/// `cargo bench -p lakefold-benches --bench solvers`. Its n² numbers must be to be had, too.
pub(super) fn is_preferred(n: usize, request: &Request<'_>) -> bool {
    let sparse = 1e-5 * n as f64 * (1.0 + request.n_components as f64 / 4.0);
    let bytes = predicted_bytes(n);
    let fits = seconds(n) < sparse && request.budget.reserve("the dense solver", bytes).is_ok();
    if fits {
        request.budget.release(bytes);
    }
    fits
}

/// OpenBLAS's sums depend on how many threads it uses, and its threads would compete with rayon's.
fn one_thread() {
    static ONCE: Once = Once::new();
    // SAFETY: the function has no preconditions; libopenblas is linked by ndarray-linalg.
    ONCE.call_once(|| unsafe { openblas_set_num_threads(1) });
}

/// The bottom `n_components` eigenvectors that are orthogonal to the known null vector.
pub(super) fn bottom(operator: &dyn Operator, request: &Request<'_>) -> Result<Panel> {
    let n = operator.len();
    // The matrix, LAPACK's copy and its workspace.
    request.budget.reserve(
        &format!("the dense solver ({n} × {n} numbers)"),
        predicted_bytes(n),
    )?;
    request.control.progress(Phase::Factorize, 0, 1);
    let lower = operator.lower(request.control)?;
    let mut matrix = Array2::<f64>::zeros((n, n));
    for column in 0..n {
        for place in lower.column_start[column]..lower.column_start[column + 1] {
            let row = lower.rows[place];
            matrix[(row, column)] = lower.values[place];
            matrix[(column, row)] = lower.values[place];
        }
    }
    // M maps its null vector to zero; lifted above all other eigenvalues it is out of the way.
    // No eigenvalue exceeds the largest sum of a row's magnitudes.
    let rows = matrix.rows().into_iter();
    let bound = rows
        .map(|row| row.iter().map(|v| v.abs()).sum::<f64>())
        .fold(0.0, f64::max);
    let null = operator.null_vector();
    let null = null.column(0);
    for ((row, column), value) in matrix.indexed_iter_mut() {
        *value += 2.0 * bound * null[row] * null[column];
    }
    stop_if_cancelled(request.control)?;
    one_thread();
    let (_, vectors) = matrix
        .eigh(UPLO::Lower)
        .map_err(|error| ManifoldError::LinearAlgebra {
            operation: "LAPACK's symmetric eigensolver",
            detail: error.to_string(),
        })?;
    stop_if_cancelled(request.control)?;
    request.control.progress(Phase::Factorize, 1, 1);
    request.clock.lap(Phase::Factorize);
    request.control.progress(Phase::Eigen, 0, 100);
    let mut bottom = Panel::zeros(n, request.n_components);
    for j in 0..request.n_components {
        for (v, x) in bottom.column_mut(j).iter_mut().zip(vectors.column(j)) {
            *v = *x;
        }
    }
    request.budget.release(predicted_bytes(n));
    Ok(bottom)
}

fn predicted_bytes(n: usize) -> usize {
    3 * n * n * size_of::<f64>()
}
