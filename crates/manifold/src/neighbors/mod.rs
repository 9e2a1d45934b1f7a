//! Exact nearest neighbours: the k points with the smallest (squared distance, id), never the point
//! itself.
//!
//! Distances are sums of squared differences in `f64` in a fixed order ([`squared_distance`]), so the
//! answer does not depend on threads, blocks or the processor. Two searches give that same answer: a
//! k-d tree for few dimensions, and blocked matrix products, which only propose, for many.

mod best;
mod blocks;
mod tree;

use crate::points::{Feature, Points};
use crate::{Control, Result};

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
    self_join_by(Search::for_dimensions(points.dimensions()), points, k, control)
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
        Search::Tree => tree::predicted_bytes(points, dimensions),
        Search::Blocks => blocks::predicted_bytes(points, dimensions, k),
    };
    search + points * k * 4
}

#[cfg(test)]
mod tests;
