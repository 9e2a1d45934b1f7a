//! Exact nearest neighbours: the k points with the smallest (key, id), never the point itself. A key is a
//! squared distance, or what else a [`Metric`] orders by.
//!
//! Keys are sums in `f64` in a fixed order ([`crate::points::squared_distance`]), so the answer does not
//! depend on threads, blocks or the processor. Two searches give that same answer: a
//! k-d tree for few dimensions, and blocked matrix products, which only propose, for many.

mod algorithm;
pub(crate) mod approximate;
mod best;
mod blocks;
mod bound;
mod centred;
mod distances;
pub(crate) mod exact;
mod foreign;
mod graph_join;
pub(crate) mod measure;
mod metric;
mod problem;
mod proposals;
mod stand_ins;
mod tree;

pub(crate) use foreign::Base;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

pub use algorithm::NeighborsAlgorithm;
pub use approximate::ApproximateIndex;
pub use distances::hits;
pub use exact::{ExactIndex, Nearest, nearest_rows};
pub use foreign::tree_pays as exact_tree_pays;
pub use metric::Metric;

use crate::points::{Feature, Points};
use crate::{Control, NeighborMethod, Result};

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

    /// The k nearest of these, k at most their own.
    pub(crate) fn nearest(&self, k: usize) -> Neighbors {
        let rows = self.ids.chunks(self.k);
        Neighbors {
            k,
            ids: rows.flat_map(|row| &row[..k]).copied().collect(),
        }
    }
}

/// The k nearest points of each query, nearest first.
pub(crate) struct Found {
    k: usize,
    ids: Vec<u32>,
    /// What the points were ordered by, see [`Metric`].
    keys: Vec<f64>,
}

impl Found {
    fn new(queries: usize, k: usize) -> Self {
        Self {
            k,
            ids: vec![0; queries * k],
            keys: vec![0.0; queries * k],
        }
    }

    /// The places of `queries` queries at a time.
    fn par_chunks_mut(
        &mut self,
        queries: usize,
    ) -> impl IndexedParallelIterator<Item = (&mut [u32], &mut [f64])> {
        let keys = self.keys.par_chunks_mut(queries * self.k);
        self.ids.par_chunks_mut(queries * self.k).zip(keys)
    }

    /// Takes over the neighbours of `other`'s query.
    fn copy(&mut self, query: usize, other: &Found, others_query: usize) {
        let (k, from) = (self.k, others_query * self.k);
        self.ids[query * k..][..k].copy_from_slice(&other.ids[from..from + k]);
        self.keys[query * k..][..k].copy_from_slice(&other.keys[from..from + k]);
    }
}

/// Which search to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    Tree,
    Blocks,
}

impl Search {
    fn of(metric: Metric, dimensions: usize) -> Self {
        if metric == Metric::L2 && dimensions <= TREE_DIMENSIONS {
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
    let ids = self_join_found(points, k, Metric::L2, control)?.ids;
    Ok(Neighbors { k, ids })
}

fn self_join_found<T: Feature>(
    points: Points<'_, T>,
    k: usize,
    metric: Metric,
    control: &dyn Control,
) -> Result<Found> {
    match Search::of(metric, points.dimensions()) {
        Search::Tree => tree::self_join(points, k, control),
        Search::Blocks => blocks::self_join(points, k, metric, control),
    }
}

/// The k nearest other points of every point by either method, and the measured share of the nearest that was found
/// where it is not all of them.
pub(crate) fn self_join_by<T: Feature>(
    method: NeighborMethod,
    points: Points<'_, T>,
    k: usize,
    seed: u64,
    control: &dyn Control,
) -> Result<(Neighbors, Option<f64>)> {
    match method {
        NeighborMethod::Exact => Ok((self_join(points, k, control)?, None)),
        NeighborMethod::Hnsw => {
            let (neighbors, recall) = graph_join::self_join(points, k, seed, control)?;
            Ok((neighbors, Some(recall)))
        }
    }
}

/// The `n_neighbors` nearest other rows of every row of `features`, shape (n, D), nearest first: shape
/// (n, `n_neighbors`). Distances are Euclidean and compared in `f64`; of rows at equal distance the smaller
/// number comes first. A row is never its own neighbour, but an equal row is one, at distance 0.
///
/// # Errors
/// [`ManifoldError::NonFinite`] and [`ManifoldError::TooLarge`] for unusable features,
/// [`ManifoldError::ParameterNeedsMoreData`] unless 1 ≤ `n_neighbors` < n, and
/// [`ManifoldError::Cancelled`].
///
/// [`ManifoldError::NonFinite`]: crate::ManifoldError::NonFinite
/// [`ManifoldError::TooLarge`]: crate::ManifoldError::TooLarge
/// [`ManifoldError::ParameterNeedsMoreData`]: crate::ManifoldError::ParameterNeedsMoreData
/// [`ManifoldError::Cancelled`]: crate::ManifoldError::Cancelled
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
    let (found, _) = exact::join(features, ("n_neighbors", k), Metric::L2, control)?;
    distances::table(found.ids, k)
}

/// For each query the nearest point of another group (`group[query] != group[point]`). Every query
/// has such a point.
pub(crate) fn nearest_outside<T: Feature>(
    points: Points<'_, T>,
    queries: &[u32],
    group: &[u32],
    control: &dyn Control,
) -> Result<Vec<u32>> {
    match Search::of(Metric::L2, points.dimensions()) {
        Search::Tree => tree::nearest_outside(points, queries, group, control),
        Search::Blocks => blocks::nearest_outside(points, queries, group, control),
    }
}

/// Whether a [`Base`] of so many points is searched by a descent and not by all products.
pub(crate) fn tree_pays(points: usize, dimensions: usize) -> bool {
    foreign::tree_pays(points, dimensions, Metric::L2)
}

/// Bytes that [`self_join`] allocates, its result included.
pub(crate) fn predicted_bytes(points: usize, dimensions: usize, k: usize) -> usize {
    predicted_join_bytes(points, dimensions, k, Metric::L2)
}

/// Bytes that [`self_join_by`] allocates, its result included.
pub(crate) fn predicted_bytes_by<T: Feature>(
    method: NeighborMethod,
    points: usize,
    dimensions: usize,
    k: usize,
) -> usize {
    match method {
        NeighborMethod::Exact => predicted_bytes(points, dimensions, k),
        NeighborMethod::Hnsw => graph_join::predicted_bytes::<T>(points, dimensions, k),
    }
}

fn predicted_join_bytes(points: usize, dimensions: usize, k: usize, metric: Metric) -> usize {
    let search = match Search::of(metric, dimensions) {
        Search::Tree => tree::predicted_bytes(points),
        Search::Blocks => blocks::predicted_bytes(points, dimensions, k, metric),
    };
    search + points * k * (size_of::<u32>() + size_of::<f64>())
}

#[cfg(test)]
mod tests;
