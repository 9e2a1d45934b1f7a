//! The largest eigenvalues of a symmetric operator by block Lanczos with thick restarts
//! (Wu and Simon 2000; Zhou and Saad 2008), with full reorthogonalisation.
//!
//! Blocks find eigenvalues of multiplicity up to their width, and let the operator work on many vectors
//! at once.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::triangular::WIDTH;
use crate::control::stop_if_cancelled;
use crate::panel::{Panel, symmetric_eigen};
use crate::{Control, ManifoldError, Phase, Result};

/// Residuals relative to the eigenvalue at which the iteration stops.
const TOLERANCE: f64 = 1e-10;
/// Residuals that are still an answer where rounding keeps the iteration from [`TOLERANCE`].
const ACCEPTABLE: f64 = 1e-6;
/// Eigenvalues below this much of the largest drown in its rounding error. They are left to another call, in
/// which the eigenvectors of the larger ones are known.
const REACH: f64 = 1e-6;
const MAX_STEPS: usize = 400;
/// Residuals times the shift's share of the eigenvalue's inverse that are rounding of M: within a null space
/// of more dimensions than are wanted, nothing tells one vector from another.
const NEGLIGIBLE: f64 = 1e-3;
/// Blocks without progress after which negligible residuals end the iteration.
const PATIENCE: usize = 40;

/// Up to `wanted` eigenvectors, at least one (columns, largest eigenvalue first), of the operator restricted
/// to what is orthogonal to the orthonormal `known` ones. `apply` maps a block to a new one; it is the inverse of a matrix to which `shift` was added.
pub(super) fn largest(
    known: &Panel,
    wanted: usize,
    shift: f64,
    seed: u64,
    control: &dyn Control,
    mut apply: impl FnMut(&Panel) -> Result<Panel>,
) -> Result<Panel> {
    let (n, p) = (known.rows(), known.columns());
    let space = n - p;
    let width = WIDTH.min(space);
    let capacity = basis_size(space, wanted);
    let mut next = Panel::random(n, width, seed);
    remove_components(&mut next, known);
    next.orthonormalize(known, seed);
    // The first p columns are the known ones, of which the projected operator knows nothing.
    let mut basis = known.clone();
    let mut projected = Mat::<f64>::zeros(0, 0);
    let (mut best, mut best_step) = (f64::INFINITY, 0);
    for step in 0..MAX_STEPS {
        stop_if_cancelled(control)?;
        let mut image = apply(&next)?;
        basis.append(&next);
        let coefficients = remove_components(&mut image, &basis);
        projected = bordered(
            &projected,
            coefficients.as_ref().subrows(p, basis.columns() - p),
        );
        let (values, vectors) = symmetric_eigen(&projected)?;
        let size = basis.columns() - p;
        let step_seed = seed.wrapping_add(step as u64 + 1);
        let beyond = values.partition_point(|&value| value < REACH * values[size - 1]);
        let within = wanted.min(size - beyond);
        if size == space {
            // The basis spans everything, so its Ritz vectors are the eigenvectors.
            return Ok(basis.times(&last_columns(&vectors, within, p)));
        }
        if size + width > space {
            next = Panel::zeros(n, space - size);
            next.orthonormalize(&basis, step_seed);
            continue;
        }
        let coupling = image.orthonormalize(&basis, step_seed);
        // What cancelled within the block has lost its orthogonality to the basis. An operator that maps a
        // null vector of M to 10¹² times its length would bring that back as a new direction.
        let overlap = basis.transposed_times(&image);
        image.add_product(&basis, &overlap, -1.0);
        let coupling = product(&image.orthonormalize(&basis, step_seed), &coupling);
        if size >= wanted {
            let residual = residual(&values, &vectors, &coupling, within);
            if residual < best / 2.0 {
                (best, best_step) = (residual, step);
            }
            let negligible = NEGLIGIBLE * shift * values[size - within];
            let stalled = step >= best_step + PATIENCE && residual <= negligible;
            let last = step + 1 == MAX_STEPS && residual <= ACCEPTABLE.max(negligible);
            tracing::debug!(step, size, residual, "lanczos");
            report(control, residual);
            if residual <= TOLERANCE || stalled || last {
                control.progress(Phase::Eigen, 100, 100);
                return Ok(basis.times(&last_columns(&vectors, within, p)));
            }
        }
        if size + width > capacity && capacity < space {
            let kept = (wanted + width).min(capacity - 2 * width);
            let ritz = basis.times(&last_columns(&vectors, kept, p));
            basis = known.clone();
            basis.append(&ritz);
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

/// Columns that [`largest`] keeps, the known ones not counted.
pub(super) fn basis_size(space: usize, wanted: usize) -> usize {
    (2 * wanted + 6 * WIDTH).min(space).max(wanted)
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
fn bordered(projected: &Mat<f64>, coefficients: MatRef<'_, f64>) -> Mat<f64> {
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

/// a · b, by one thread.
fn product(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// The eigenvectors of the `count` largest values, largest first, below `p` rows of zeros.
fn last_columns(vectors: &Mat<f64>, count: usize, p: usize) -> Mat<f64> {
    let size = vectors.ncols();
    Mat::from_fn(p + size, count, |i, j| {
        i.checked_sub(p).map_or(0.0, |i| vectors[(i, size - 1 - j)])
    })
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
