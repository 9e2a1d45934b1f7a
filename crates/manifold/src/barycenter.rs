//! Barycentre weights of one row over neighbours of the caller's choice.

use ndarray::{ArrayView1, ArrayView2, Axis};

use crate::points::{Feature, Points, check};
use crate::quality::check_neighbors_and_reg;
use crate::weights::Barycenter;
use crate::{ManifoldError, Result};

/// The weights w of `neighbors`, shape (k, D), that minimise ‖x − Σ wᵢ pᵢ‖² with Σ wᵢ = 1 for x = `row`, shape
/// (D,), regularised by `reg` times the trace of the local Gram matrix (Roweis and Saul 2000, equation 1; Saul
/// and Roweis 2003, section 5). Weights may be negative. What LLE computes for every row over its nearest
/// neighbours, and scikit-learn's `barycenter_weights`.
///
/// # Errors
/// [`ManifoldError::InvalidParameter`] for neighbours of other dimensions than the row, for none, and for a
/// `reg` that is negative, not finite or too small; [`ManifoldError::NonFinite`] and
/// [`ManifoldError::TooLarge`] for unusable values, the row's as those of row 0.
///
/// ```
/// use ndarray::array;
/// let neighbors = array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
/// let weights = lakefold_manifold::barycenter_weights(array![0.5, 0.25].view(), neighbors.view(), 1e-9)?;
/// assert!((weights[1] - 0.5).abs() < 1e-6 && (weights[2] - 0.25).abs() < 1e-6);
/// # Ok::<(), lakefold_manifold::ManifoldError>(())
/// ```
pub fn barycenter_weights<T: Feature>(
    row: ArrayView1<'_, T>,
    neighbors: ArrayView2<'_, T>,
    reg: f64,
) -> Result<Vec<f64>> {
    let (k, dimensions) = neighbors.dim();
    check_neighbors_and_reg(k, reg)?;
    if row.len() != dimensions || dimensions == 0 {
        return Err(ManifoldError::InvalidParameter {
            name: "neighbors",
            value: format!("{dimensions} dimensions"),
            requirement: format!("of the row's {} dimensions, at least 1", row.len()),
        });
    }
    check(row.insert_axis(Axis(0)))?;
    check(neighbors)?;
    let row: Vec<T> = row.iter().copied().collect();
    let values: Vec<T> = neighbors.iter().copied().collect();
    let ids: Vec<u32> = (0..k as u32).collect();
    let mut weights = vec![0.0; k];
    let mut solver = Barycenter::new(k, dimensions, reg);
    crate::simd::widest(
        #[inline(always)]
        || solver.solve(&row, Points::new(&values, dimensions), &ids, &mut weights),
    )?;
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn a_corner_has_its_own_weight_and_sums_are_one() {
        let neighbors = array![[0.0_f32, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]];
        let weights =
            barycenter_weights(array![0.0_f32, 0.0].view(), neighbors.view(), 1e-6).unwrap();
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(weights[0] > 0.7, "{weights:?}");
        let wide = barycenter_weights(array![1.0_f32, 1.0].view(), neighbors.view(), 1e3).unwrap();
        assert!(wide.iter().all(|w| (w - 0.25).abs() < 1e-3), "{wide:?}");
    }

    #[test]
    fn bad_input_is_named() {
        let neighbors = array![[0.0, 0.0], [2.0, f64::NAN]];
        let message = |row: &[f64], neighbors: &Array2<f64>, reg| {
            let row = ArrayView1::from(row);
            barycenter_weights(row, neighbors.view(), reg)
                .unwrap_err()
                .to_string()
        };
        assert!(message(&[1.0, 2.0], &neighbors, 0.1).contains("NaN"));
        let good = array![[0.0, 0.0], [2.0, 1.0]];
        assert!(message(&[1.0], &good, 0.1).contains("2 dimensions"));
        assert!(message(&[1.0, 2.0], &good, -1.0).contains("reg"));
        assert!(message(&[1.0, 2.0], &Array2::zeros((0, 2)), 1.0).contains("n_neighbors"));
    }
}
