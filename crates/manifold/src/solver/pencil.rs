//! The bottom of a dense symmetric pencil (A, B) whose A maps the constant vector to zero.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{
    LltRegularization, cholesky_in_place, cholesky_in_place_scratch,
};
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::{Accum, Mat, MatRef, Par, Spec};

use super::lanczos;
use crate::panel::{Panel, symmetric_eigen};
use crate::{Control, ManifoldError, Result};

/// Shifts relative to trace(A) / trace(B), tried in turn until A + shift·B can be factored.
const SHIFTS: [f64; 5] = [1e-13, 1e-12, 1e-11, 1e-10, 1e-8];

/// Eigenpairs A v = λ B v, ascending, the constant vector left out.
pub(crate) struct PencilPairs {
    pub(crate) values: Vec<f64>,
    /// vᵀ B v = 1; one column a vector.
    pub(crate) vectors: Mat<f64>,
    /// ‖S x − λ x‖ of the standard problem S = L⁻¹ A L⁻ᵀ, with B = L Lᵀ and x = Lᵀ v.
    pub(crate) residuals: Vec<f64>,
}

/// The `wanted` smallest eigenvalues and their vectors. Only the lower triangles of `a` and `b`, both
/// L × L, are read; b is positive definite.
pub(crate) fn bottom_of_pencil(
    a: &Mat<f64>,
    b: &Mat<f64>,
    wanted: usize,
    seed: u64,
    control: &dyn Control,
) -> Result<PencilPairs> {
    let n = a.nrows();
    let root = factor(b.clone()).ok_or_else(|| singular("ZᵀZ"))?;
    let trace = |m: &Mat<f64>| (0..n).map(|i| m[(i, i)]).sum::<f64>();
    let scale = (trace(a) / trace(b)).max(f64::MIN_POSITIVE);
    // Lifting the constant vector from 0 to the middle of the spectrum keeps the rounding errors of the
    // shifted solves from piling up along it.
    let ones = Mat::from_fn(n, 1, |_, _| 1.0);
    let along = symmetric_times(b, &ones);
    let lift = scale / (0..n).map(|i| along[(i, 0)]).sum::<f64>();
    let (shift, shifted) = SHIFTS
        .iter()
        .find_map(|shift| {
            let shift = shift * scale;
            let lifted = Mat::from_fn(n, n, |i, j| {
                a[(i, j)] + shift * b[(i, j)] + lift * along[(i, 0)] * along[(j, 0)]
            });
            Some((shift, factor(lifted)?))
        })
        .ok_or_else(|| singular("the reduced matrix of the landmarks"))?;

    // In x = Lᵀ v the constant vector is this one, known and left out.
    let constant = times_transposed(root.as_ref(), ones.as_ref());
    let mut known = Panel::zeros(n, 1);
    known.as_mat_mut().copy_from(&constant);
    known.orthonormalize(&Panel::zeros(n, 0), seed);
    let invert = |block: &Panel| {
        let mut y = Mat::zeros(n, block.columns());
        let lower = root.as_ref();
        lower_times(lower, block.as_mat(), &mut y);
        solve_lower_triangular_in_place(shifted.as_ref(), y.as_mut(), Par::Seq);
        solve_upper_triangular_in_place(shifted.transpose(), y.as_mut(), Par::Seq);
        let y = times_transposed(lower, y.as_ref());
        let mut x = Panel::zeros(n, block.columns());
        x.as_mat_mut().copy_from(&y);
        Ok(x)
    };
    while known.columns() <= wanted {
        let missing = wanted + 1 - known.columns();
        let found = lanczos::largest(&known, missing, shift, seed, control, invert)?;
        known.append(&found);
        known.orthonormalize(&Panel::zeros(n, 0), seed);
    }
    let x = known.columns_from(1);

    // Rayleigh and Ritz within the span: rounding in the shifted solves does not reach the values.
    let apply = |x: MatRef<'_, f64>| {
        let mut v = x.to_owned();
        solve_upper_triangular_in_place(root.transpose(), v.as_mut(), Par::Seq);
        let mut image = symmetric_times(a, &v);
        solve_lower_triangular_in_place(root.as_ref(), image.as_mut(), Par::Seq);
        image
    };
    let images = apply(x.as_mat());
    let mut small = Mat::zeros(wanted, wanted);
    let product = |out: &mut Mat<f64>, left: MatRef<'_, f64>, right: MatRef<'_, f64>| {
        matmul(out.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
    };
    product(&mut small, x.as_mat().transpose(), images.as_ref());
    let (values, rotation) = symmetric_eigen(&small)?;
    let mut vectors = Mat::zeros(n, wanted);
    product(&mut vectors, x.as_mat(), rotation.as_ref());
    let mut rotated = Mat::zeros(n, wanted);
    product(&mut rotated, images.as_ref(), rotation.as_ref());
    let residuals = (0..wanted)
        .map(|j| {
            let squares = (0..n).map(|i| (rotated[(i, j)] - values[j] * vectors[(i, j)]).powi(2));
            squares.sum::<f64>().sqrt()
        })
        .collect::<Vec<_>>();
    check_residuals(&values, &residuals, scale)?;
    solve_upper_triangular_in_place(root.transpose(), vectors.as_mut(), Par::Seq);
    Ok(PencilPairs {
        values: values.into_iter().map(|value| value.max(0.0)).collect(),
        vectors,
        residuals,
    })
}

/// What rounding leaves of a residual, relative to trace(A) / trace(B).
const ROUNDING: f64 = 1e-9;

fn check_residuals(values: &[f64], residuals: &[f64], scale: f64) -> Result<()> {
    for (component, (value, residual)) in values.iter().zip(residuals).enumerate() {
        let allowed = 1e-3 * value.abs() + ROUNDING * scale;
        if residual.is_nan() || *residual > allowed {
            return Err(ManifoldError::NoConvergence {
                solver: "landmarks",
                detail: format!(
                    "component {} has eigenvalue {value:.1e} and residual {residual:.1e}, allowed \
                     is {allowed:.1e}",
                    component + 1
                ),
            });
        }
    }
    Ok(())
}

fn singular(what: &str) -> ManifoldError {
    ManifoldError::LinearAlgebra {
        operation: "Cholesky factorisation of the landmarks' problem",
        detail: format!("{what} is not numerically positive definite; raise reg"),
    }
}

/// The lower Cholesky factor, if there is one.
fn factor(mut matrix: Mat<f64>) -> Option<Mat<f64>> {
    let n = matrix.nrows();
    let scratch = cholesky_in_place_scratch::<f64>(n, Par::Seq, Spec::default());
    cholesky_in_place(
        matrix.as_mut(),
        LltRegularization::default(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .ok()?;
    for j in 0..n {
        for i in 0..j {
            matrix[(i, j)] = 0.0;
        }
    }
    let finite = (0..n).all(|j| matrix[(j, j)].is_finite() && matrix[(j, j)] > 0.0);
    finite.then_some(matrix)
}

fn lower_times(lower: MatRef<'_, f64>, x: MatRef<'_, f64>, out: &mut Mat<f64>) {
    matmul(out.as_mut(), Accum::Replace, lower, x, 1.0, Par::Seq);
}

fn times_transposed(lower: MatRef<'_, f64>, x: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(lower.nrows(), x.ncols());
    matmul(
        out.as_mut(),
        Accum::Replace,
        lower.transpose(),
        x,
        1.0,
        Par::Seq,
    );
    out
}

/// a · x, where only the lower triangle of a counts.
fn symmetric_times(a: &Mat<f64>, x: &Mat<f64>) -> Mat<f64> {
    let n = a.nrows();
    let whole = Mat::from_fn(n, n, |i, j| a[(i.max(j), i.min(j))]);
    let mut out = Mat::zeros(n, x.ncols());
    lower_times(whole.as_ref(), x.as_ref(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::Panel;

    fn product(left: &Mat<f64>, right: &Mat<f64>) -> Mat<f64> {
        let mut out = Mat::zeros(left.nrows(), right.ncols());
        lower_times(left.as_ref(), right.as_ref(), &mut out);
        out
    }

    fn random(n: usize, seed: u64) -> Mat<f64> {
        Panel::random(n, n, seed).as_mat().to_owned()
    }

    #[test]
    fn pairs_solve_the_pencil_and_are_its_smallest() {
        let n = 60;
        // Rows that sum to zero make A's null vector; a diagonal makes B definite.
        let mut r = random(n, 1);
        for i in 0..n {
            let mean = (0..n).map(|j| r[(i, j)]).sum::<f64>() / n as f64;
            (0..n).for_each(|j| r[(i, j)] -= mean);
        }
        let a = product(&r.transpose().to_owned(), &r);
        let z = random(n, 2);
        let mut b = product(&z.transpose().to_owned(), &z);
        (0..n).for_each(|i| b[(i, i)] += 1.0);
        let pairs = bottom_of_pencil(&a, &b, 5, 0, &()).unwrap();

        let left = product(&a, &pairs.vectors);
        let right = product(&b, &pairs.vectors);
        for j in 0..5 {
            for i in 0..n {
                assert!((left[(i, j)] - pairs.values[j] * right[(i, j)]).abs() < 1e-8);
            }
            for other in 0..5 {
                let overlap: f64 = (0..n)
                    .map(|i| pairs.vectors[(i, other)] * right[(i, j)])
                    .sum();
                assert!((overlap - f64::from(u8::from(j == other))).abs() < 1e-9);
            }
            // Orthogonal, in B, to the constant vector.
            assert!((0..n).map(|i| right[(i, j)]).sum::<f64>().abs() < 1e-8);
        }
        let root = factor(b).unwrap();
        let mut standard = a.clone();
        solve_lower_triangular_in_place(root.as_ref(), standard.as_mut(), Par::Seq);
        let mut standard = standard.transpose().to_owned();
        solve_lower_triangular_in_place(root.as_ref(), standard.as_mut(), Par::Seq);
        let (all, _) = symmetric_eigen(&standard).unwrap();
        assert!(all[0].abs() < 1e-10);
        for (value, expected) in pairs.values.iter().zip(&all[1..]) {
            assert!(
                (value - expected).abs() < 1e-9 * expected,
                "{value} {expected}"
            );
        }
    }
}
