//! LAPACK's symmetric eigensolver on the whole matrix.

use std::sync::Once;

use ndarray::Array2;
use ndarray_linalg::{Eigh, UPLO};

use super::Request;
use crate::matrix::Deviation;
use crate::panel::Panel;
use crate::{ManifoldError, Phase, Result};

/// Below this many points the dense solver is the faster one
/// (`cargo bench -p lakefold-benches --bench solvers`).
const CROSSOVER: usize = 200;

unsafe extern "C" {
    fn openblas_set_num_threads(threads: std::ffi::c_int);
}

pub(super) fn is_cheaper(n: usize) -> bool {
    n <= CROSSOVER
}

/// OpenBLAS's sums depend on how many threads it uses, and its threads would compete with rayon's.
fn one_thread() {
    static ONCE: Once = Once::new();
    // SAFETY: the function has no preconditions; libopenblas is linked by ndarray-linalg.
    ONCE.call_once(|| unsafe { openblas_set_num_threads(1) });
}

/// The bottom `n_components` eigenvectors that are orthogonal to the constant vector.
pub(super) fn bottom(deviation: &Deviation, request: &Request<'_>) -> Result<Panel> {
    let n = deviation.len();
    // The matrix, LAPACK's copy and its workspace.
    request.budget.reserve(
        &format!("the dense solver ({n} × {n} numbers)"),
        predicted_bytes(n),
    )?;
    request.control.progress(Phase::Factorize, 0, 1);
    let lower = deviation.lower();
    let mut matrix = Array2::<f64>::zeros((n, n));
    for column in 0..n {
        for place in lower.column_start[column]..lower.column_start[column + 1] {
            let row = lower.rows[place];
            matrix[(row, column)] = lower.values[place];
            matrix[(column, row)] = lower.values[place];
        }
    }
    // M maps the constant vector to zero; lifted above all other eigenvalues it is out of the way.
    let lift = 4.0 * deviation.largest_diagonal();
    matrix += lift;
    one_thread();
    let (_, vectors) = matrix
        .eigh(UPLO::Lower)
        .map_err(|error| ManifoldError::LinearAlgebra {
            operation: "LAPACK's symmetric eigensolver",
            detail: error.to_string(),
        })?;
    request.control.progress(Phase::Factorize, 1, 1);
    request.clock.lap(Phase::Factorize);
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
