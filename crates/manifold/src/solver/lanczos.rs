//! The largest eigenvalues of a symmetric operator by block Lanczos with thick restarts
//! (Wu and Simon 2000; Zhou and Saad 2008), with full reorthogonalisation.
//!
//! Blocks find eigenvalues of multiplicity up to their width, and let the operator work on many vectors
//! at once.

use faer::Mat;

use super::triangular::WIDTH;
use crate::control::stop_if_cancelled;
use crate::panel::{Panel, symmetric_eigen};
use crate::{Control, ManifoldError, Phase, Result};

/// Residuals relative to the eigenvalue at which the iteration stops.
const TOLERANCE: f64 = 1e-10;
/// Residuals that are still an answer where rounding keeps the iteration from [`TOLERANCE`].
const ACCEPTABLE: f64 = 1e-6;
const MAX_STEPS: usize = 400;

/// `wanted` eigenvectors (columns, largest eigenvalue first) of the operator, restricted to what is
/// orthogonal to the constant vector. `apply` maps a block to a new one and keeps means at zero.
pub(super) fn largest(
    n: usize,
    wanted: usize,
    seed: u64,
    control: &dyn Control,
    mut apply: impl FnMut(&Panel) -> Result<Panel>,
) -> Result<Panel> {
    let space = n - 1;
    let width = WIDTH.min(space);
    let capacity = basis_size(n, wanted);
    let mut next = Panel::random(n, width, seed);
    next.remove_means();
    next.orthonormalize(None, seed);
    let mut basis = Panel::zeros(n, 0);
    let mut projected = Mat::<f64>::zeros(0, 0);
    let mut best = f64::INFINITY;
    for step in 0..MAX_STEPS {
        stop_if_cancelled(control)?;
        let mut image = apply(&next)?;
        basis.append(&next);
        let coefficients = remove_components(&mut image, &basis);
        projected = bordered(&projected, &coefficients);
        let (values, vectors) = symmetric_eigen(&projected)?;
        let size = basis.columns();
        let step_seed = seed.wrapping_add(step as u64 + 1);
        if size == space {
            // The basis spans everything, so its Ritz vectors are the eigenvectors.
            return Ok(basis.times(&last_columns(&vectors, wanted)));
        }
        if size + width > space {
            next = Panel::zeros(n, space - size);
            next.orthonormalize(Some(&basis), step_seed);
            continue;
        }
        let coupling = image.orthonormalize(Some(&basis), step_seed);
        if size >= wanted {
            let residual = residual(&values, &vectors, &coupling, wanted);
            best = best.min(residual);
            let stalled = step + 1 == MAX_STEPS && residual <= ACCEPTABLE;
            tracing::debug!(step, size, residual, "lanczos");
            report(control, residual);
            if residual <= TOLERANCE || stalled {
                control.progress(Phase::Eigen, 100, 100);
                return Ok(basis.times(&last_columns(&vectors, wanted)));
            }
        }
        if size + width > capacity && capacity < space {
            let kept = (wanted + width).min(capacity - 2 * width);
            basis = basis.times(&last_columns(&vectors, kept));
            projected = Mat::from_fn(
                kept,
                kept,
                |i, j| {
                    if i == j { values[size - 1 - i] } else { 0.0 }
                },
            );
        }
        next = image;
    }
    Err(ManifoldError::NoConvergence {
        solver: "exact",
        detail: format!("relative residual {best:.1e} after {MAX_STEPS} blocks"),
    })
}

/// Columns that [`largest`] keeps.
pub(super) fn basis_size(n: usize, wanted: usize) -> usize {
    (2 * wanted + 6 * WIDTH).min(n - 1).max(wanted)
}

/// Subtracts what lies in `basis`, twice, and returns basisᵀ · image.
fn remove_components(image: &mut Panel, basis: &Panel) -> Mat<f64> {
    let mut coefficients = basis.transposed_times(image);
    image.add_product(basis, &coefficients, -1.0);
    let again = basis.transposed_times(image);
    image.add_product(basis, &again, -1.0);
    coefficients += &again;
    coefficients
}

/// The projected operator with the last columns (and, by symmetry, rows) added.
fn bordered(projected: &Mat<f64>, coefficients: &Mat<f64>) -> Mat<f64> {
    let (old, new) = (projected.nrows(), coefficients.nrows());
    Mat::from_fn(new, new, |i, j| {
        let (i, j) = (i.max(j), i.min(j));
        match (i < old, j < old) {
            (true, _) => projected[(i, j)],
            (false, true) => coefficients[(j, i - old)],
            (false, false) => f64::midpoint(coefficients[(i, j - old)], coefficients[(j, i - old)]),
        }
    })
}

/// The eigenvectors of the `count` largest values, largest first.
fn last_columns(vectors: &Mat<f64>, count: usize) -> Mat<f64> {
    let size = vectors.ncols();
    Mat::from_fn(vectors.nrows(), count, |i, j| vectors[(i, size - 1 - j)])
}

/// The largest relative residual of the wanted Ritz pairs: ‖R · (last block of the vector)‖ / value.
fn residual(values: &[f64], vectors: &Mat<f64>, coupling: &Mat<f64>, wanted: usize) -> f64 {
    let size = values.len();
    let width = coupling.ncols();
    (size - wanted..size)
        .map(|column| {
            let squares: f64 = (0..width)
                .map(|i| {
                    let row = |j: usize| coupling[(i, j)] * vectors[(size - width + j, column)];
                    (0..width).map(row).sum::<f64>().powi(2)
                })
                .sum();
            squares.sqrt() / values[column].abs().max(f64::MIN_POSITIVE)
        })
        .fold(0.0, f64::max)
}

/// Progress in digits of the residual.
fn report(control: &dyn Control, residual: f64) {
    let digits = (-residual.log10()).clamp(0.0, 10.0);
    control.progress(Phase::Eigen, (digits * 9.9) as u64, 100);
}
