//! What the barycentre weights leave of the features and of an embedding.

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::{check_neighbors_and_reg, needs_more};
#[cfg(doc)]
use crate::ManifoldError;
use crate::control::Budget;
use crate::neighbors::{self, Neighbors};
use crate::points::{DistinctRows, Feature, Points};
use crate::weights::barycenter_weights;
use crate::{Control, Result};

/// ‖x − Σ w p‖ of every row of `features` (n, D), in the features' own unit: how far a row lies from the
/// best affine combination of its `n_neighbors` nearest other rows (the terms of Roweis and Saul 2000,
/// equation 1). Rows that stand out have no neighbourhood that LLE could carry over.
///
/// Weights are those of the standard method with `reg`, before any bridging. Equal rows are merged first
/// and share one value. Exact at any n; time is that of the exact neighbours.
///
/// # Errors
/// Those of [`crate::nearest_neighbors`]; [`ManifoldError::ParameterNeedsMoreData`] unless there are more
/// distinct rows than `n_neighbors`; [`ManifoldError::InvalidParameter`] for a `reg` that is negative, not
/// finite or too small; [`ManifoldError::Memory`] and [`ManifoldError::Cancelled`].
pub fn reconstruction_error<T: Feature>(
    features: ArrayView2<'_, T>,
    n_neighbors: usize,
    reg: f64,
    control: &dyn Control,
) -> Result<Vec<f64>> {
    T::reconstruction_error(features, n_neighbors, reg, control)
}

pub(crate) fn errors<T: Feature>(
    features: ArrayView2<'_, T>,
    k: usize,
    reg: f64,
    control: &dyn Control,
) -> Result<Vec<f64>> {
    check_neighbors_and_reg(k, reg)?;
    let (rows, dimensions) = features.dim();
    let budget = Budget::new(control);
    let copies = 2 * rows * dimensions * size_of::<T>() + rows * 8;
    budget.reserve("a sorted copy of the features", copies)?;
    let distinct = DistinctRows::new(features, control)?;
    budget.release(rows * dimensions * size_of::<T>());
    let points = distinct.points();
    let (graph, weights) = weigh(points, k, reg, &budget, control)?;
    let mut errors = residual_norms(points, points, &graph, &weights);
    let enlarged = enlargement(features, points);
    errors.iter_mut().for_each(|error| *error /= enlarged);
    let rows = distinct.row_to_point().iter();
    Ok(rows.map(|&p| errors[p as usize]).collect())
}

/// (1/n) Σ ‖y − Σ w y_j‖² over distinct points, with the weights that reconstruct `x` (Roweis and Saul
/// 2000, equation 2).
pub(super) fn objective(
    x: Points<'_, f64>,
    y: Points<'_, f64>,
    (graph, weights): &(Neighbors, Vec<f64>),
) -> f64 {
    let norms = residual_norms(x, y, graph, weights);
    norms.iter().map(|norm| norm * norm).sum::<f64>() / norms.len() as f64
}

/// The k nearest neighbours of distinct points and their weights.
pub(super) fn weigh<T: Feature>(
    points: Points<'_, T>,
    k: usize,
    reg: f64,
    budget: &Budget<'_>,
    control: &dyn Control,
) -> Result<(Neighbors, Vec<f64>)> {
    let (n, dimensions) = (points.len(), points.dimensions());
    if n <= k {
        return Err(needs_more(
            k,
            format!("at least {} distinct rows", k + 1),
            n,
        ));
    }
    let search = neighbors::predicted_bytes(n, dimensions, k);
    budget.reserve("exact neighbours", search)?;
    let graph = neighbors::self_join(points, k, control)?;
    budget.release(search);
    weigh_graph(points, graph, reg, budget, control)
}

/// The same where the neighbours are known.
pub(super) fn weigh_graph<T: Feature>(
    points: Points<'_, T>,
    graph: Neighbors,
    reg: f64,
    budget: &Budget<'_>,
    control: &dyn Control,
) -> Result<(Neighbors, Vec<f64>)> {
    let (k, dimensions) = (graph.k, points.dimensions());
    let scratch = rayon::current_num_threads() * k * (k + dimensions) * size_of::<f64>();
    let per_point = k * (size_of::<u32>() + size_of::<f64>()) + 2 * size_of::<f64>();
    let bytes = points.len() * per_point + scratch;
    budget.reserve("barycentre weights", bytes)?;
    let weights = barycenter_weights(points, &graph, reg, control)?;
    Ok((graph, weights))
}

/// ‖y − Σ w y_j‖ of each point. Summed as w (y − y_j), which loses nothing where y is nearly constant.
fn residual_norms<X: Feature, Y: Feature>(
    x: Points<'_, X>,
    y: Points<'_, Y>,
    graph: &Neighbors,
    weights: &[f64],
) -> Vec<f64> {
    const CHUNK: usize = 256;
    debug_assert_eq!(x.len(), y.len());
    let mut norms = vec![0.0; y.len()];
    norms
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, norms)| {
            let mut residual = vec![0.0; y.dimensions()];
            for (offset, norm) in norms.iter_mut().enumerate() {
                let point = chunk * CHUNK + offset;
                let own = y.row(point);
                let weights = &weights[point * graph.k..(point + 1) * graph.k];
                residual.fill(0.0);
                for (&neighbor, weight) in graph.row(point).iter().zip(weights) {
                    let other = y.row(neighbor as usize);
                    for ((r, a), b) in residual.iter_mut().zip(own).zip(other) {
                        *r += weight * (a.to_f64() - b.to_f64());
                    }
                }
                *norm = residual.iter().map(|r| r * r).sum::<f64>().sqrt();
            }
        });
    norms
}

/// The power of two by which `DistinctRows` enlarged tiny values; 1 for all others.
fn enlargement<T: Feature>(features: ArrayView2<'_, T>, points: Points<'_, T>) -> f64 {
    let largest = |largest: f64, value: &T| largest.max(value.to_f64().abs());
    let before = features.iter().fold(0.0, largest);
    let after = (0..points.len())
        .flat_map(|point| points.row(point))
        .fold(0.0, largest);
    if before > 0.0 { after / before } else { 1.0 }
}
