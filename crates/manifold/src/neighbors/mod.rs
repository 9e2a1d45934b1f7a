//! Exact nearest neighbours: the k points with the smallest (squared distance, id), never the point
//! itself.
//!
//! Distances are sums of squared differences in `f64` in a fixed order ([`squared_distance`]), so the
//! answer does not depend on threads, blocks or the processor. Two searches give that same answer: a
//! k-d tree for few dimensions, and blocked matrix products, which only propose, for many.

mod best;
mod blocks;
mod centred;
mod foreign;
mod proposals;
mod tree;

pub(crate) use foreign::Base;

use ndarray::{Array2, ArrayView2};

use crate::control::Budget;
use crate::points::{Feature, Points, check, enlarge};
use crate::{Control, ManifoldError, Result};

/// Up to this many dimensions a k-d tree visits few leaves; beyond it products win
/// (`cargo bench -p lakefold-benches --bench neighbors`).
const TREE_DIMENSIONS: usize = 8;

/// The k nearest other points of every point, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Neighbors {
    pub(crate) k: usize,
    /// `ids[i * k..(i + 1) * k]` belong to point i.
    pub(crate) ids: Vec<u32>,
}

impl Neighbors {
    pub(crate) fn len(&self) -> usize {
        self.ids.len() / self.k
    }

    pub(crate) fn row(&self, point: usize) -> &[u32] {
        &self.ids[point * self.k..(point + 1) * self.k]
    }
}

/// Which search to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    Tree,
    Blocks,
}

impl Search {
    fn for_dimensions(dimensions: usize) -> Self {
        if dimensions <= TREE_DIMENSIONS {
            Search::Tree
        } else {
            Search::Blocks
        }
    }
}

/// The k nearest other points of every point; `k` is below the number of points.
pub(crate) fn self_join<T: Feature>(
    points: Points<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Neighbors> {
    self_join_by(
        Search::for_dimensions(points.dimensions()),
        points,
        k,
        control,
    )
}

pub(crate) fn self_join_by<T: Feature>(
    search: Search,
    points: Points<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Neighbors> {
    let ids = match search {
        Search::Tree => tree::self_join(points, k, control)?,
        Search::Blocks => blocks::self_join(points, k, control)?,
    };
    Ok(Neighbors { k, ids })
}

/// The `n_neighbors` nearest other rows of every row of `features`, shape (n, D), nearest first: shape
/// (n, `n_neighbors`). Distances are Euclidean and compared in `f64`; of rows at equal distance the smaller
/// number comes first. A row is never its own neighbour, but an equal row is one, at distance 0.
///
/// # Errors
/// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable features,
/// [`ManifoldError::ParameterNeedsMoreData`] unless 1 ≤ `n_neighbors` < n, and
/// [`ManifoldError::Cancelled`].
pub fn nearest_neighbors<T: Feature>(
    features: ArrayView2<'_, T>,
    n_neighbors: usize,
    control: &dyn Control,
) -> Result<Array2<u32>> {
    T::nearest_neighbors(features, n_neighbors, control)
}

pub(crate) fn of_rows<T: Feature>(
    features: ArrayView2<'_, T>,
    k: usize,
    control: &dyn Control,
) -> Result<Array2<u32>> {
    check(features)?;
    let n = features.nrows();
    if k == 0 || k >= n {
        return Err(ManifoldError::ParameterNeedsMoreData {
            name: "n_neighbors",
            value: k,
            requirement: "at least 1 neighbour and more rows than neighbours".to_owned(),
            found: format!("{n} rows"),
            remedy: "change n_neighbors or search more rows".to_owned(),
        });
    }
    let budget = Budget::new(control);
    let copy = n * features.ncols() * size_of::<T>();
    let bytes = predicted_bytes(n, features.ncols(), k) + copy;
    budget.reserve("exact neighbours", bytes)?;
    let mut values: Vec<T> = features.iter().copied().collect();
    enlarge(&mut values);
    let found = self_join(Points::new(&values, features.ncols()), k, control)?;
    Array2::from_shape_vec((n, k), found.ids).map_err(|error| ManifoldError::LinearAlgebra {
        operation: "the shape of the neighbour table",
        detail: error.to_string(),
    })
}

/// For each query the nearest point of another group (`group[query] != group[point]`). Every query
/// has such a point.
pub(crate) fn nearest_outside<T: Feature>(
    points: Points<'_, T>,
    queries: &[u32],
    group: &[u32],
    control: &dyn Control,
) -> Result<Vec<u32>> {
    match Search::for_dimensions(points.dimensions()) {
        Search::Tree => tree::nearest_outside(points, queries, group, control),
        Search::Blocks => blocks::nearest_outside(points, queries, group, control),
    }
}

/// Bytes that [`self_join`] allocates, its result included.
pub(crate) fn predicted_bytes(points: usize, dimensions: usize, k: usize) -> usize {
    let search = match Search::for_dimensions(dimensions) {
        Search::Tree => tree::predicted_bytes(points),
        Search::Blocks => blocks::predicted_bytes(points, dimensions, k),
    };
    search + points * k * 4
}

#[cfg(test)]
mod tests;
