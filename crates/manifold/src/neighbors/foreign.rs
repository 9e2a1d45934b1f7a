//! The nearest points of rows that are not among them.

use super::blocks::{Allowed, predicted_search_bytes, search};
use super::graph_join::LazyGraph;
use super::problem::{Prepared, Problem};
use super::proposals::kept;
use super::tree::{self, Tree};
use super::{Found, Metric};
use crate::control::Meter;
use crate::points::{Feature, Points};
use crate::{Control, NeighborMethod, Phase, Result};

/// Up to this many dimensions, and from so many points on, a descent of the tree is cheaper than products
/// with all points: for 8,192 uniform queries and k = 12, 0.012 against 0.041 s at 2,048 points of 3
/// dimensions, 0.082 against 0.170 s at 32,768 of 5, but 0.319 against 0.207 s at 32,768 of 8.
const TREE_DIMENSIONS: usize = 5;
const TREE_POINTS: usize = 512;

/// Points that many batches of rows are compared with.
#[derive(Debug, Clone)]
pub(crate) struct Base<T> {
    values: Vec<T>,
    dimensions: usize,
    pub(super) metric: Metric,
    road: Road<T>,
}

#[derive(Debug, Clone)]
enum Road<T> {
    Tree(Tree),
    Products(Prepared),
    /// By Euclidean distance, and not all of the nearest.
    Graph(LazyGraph<T>),
}

/// Whether exact search among so many points is a descent of a k-d tree, which no graph is faster than.
#[must_use]
pub fn tree_pays(points: usize, dimensions: usize, metric: Metric) -> bool {
    metric == Metric::L2 && dimensions <= TREE_DIMENSIONS && points >= TREE_POINTS
}

impl<T: Feature> Base<T> {
    /// To be searched by Euclidean distance.
    pub(crate) fn new(values: Vec<T>, dimensions: usize) -> Self {
        Self::with_metric(values, dimensions, Metric::L2)
    }

    /// The same, through a graph if `method` says so; it is built when it is first needed.
    pub(crate) fn by(method: NeighborMethod, values: Vec<T>, dimensions: usize, seed: u64) -> Self {
        match method {
            NeighborMethod::Exact => Self::new(values, dimensions),
            NeighborMethod::Hnsw => Self {
                values,
                dimensions,
                metric: Metric::L2,
                road: Road::Graph(LazyGraph::new(seed)),
            },
        }
    }

    /// How it is searched.
    pub(crate) fn method(&self) -> NeighborMethod {
        match self.road {
            Road::Tree(_) | Road::Products(_) => NeighborMethod::Exact,
            Road::Graph(_) => NeighborMethod::Hnsw,
        }
    }

    pub(super) fn with_metric(values: Vec<T>, dimensions: usize, metric: Metric) -> Self {
        let points = Points::new(&values, dimensions);
        let road = if tree_pays(points.len(), dimensions, metric) {
            Road::Tree(Tree::new(points, (0..points.len() as u32).collect()))
        } else {
            Road::Products(Prepared::new(points, metric))
        };
        Self {
            values,
            dimensions,
            metric,
            road,
        }
    }

    pub(crate) fn points(&self) -> Points<'_, T> {
        Points::new(&self.values, self.dimensions)
    }

    /// The k nearest points of each row, nearest first, ties by id, among those that `allowed` lets through (at
    /// least k of them), or among all.
    pub(super) fn nearest_allowed(
        &self,
        rows: Points<'_, T>,
        k: usize,
        allowed: Option<Allowed<'_>>,
        control: &dyn Control,
    ) -> Result<Found> {
        let points = self.points();
        match &self.road {
            Road::Tree(tree) => {
                let meter = Meter::new(control, Phase::Neighbors, rows.len() as u64);
                let any = |place: usize, id: u32| allowed.is_none_or(|allowed| allowed(place, id));
                tree.nearest(points, rows, k, &any, &meter)
            }
            Road::Products(prepared) => {
                let problem = Problem::new(points, prepared, k);
                search(&problem, rows, kept(k, points.len()), allowed, control)
            }
            Road::Graph(_) => unreachable!("made for searches without conditions"),
        }
    }

    /// The ids of the k nearest points of each row, nearest first, ties by id; k is at most the number of
    /// points.
    pub(crate) fn nearest(
        &self,
        rows: Points<'_, T>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Vec<u32>> {
        match &self.road {
            Road::Graph(graph) => graph.nearest(self.points(), rows, k, control),
            Road::Tree(_) | Road::Products(_) => {
                Ok(self.nearest_allowed(rows, k, None, control)?.ids)
            }
        }
    }

    /// Bytes that a search for so many rows allocates beside its result.
    pub(super) fn search_bytes(&self, rows: usize, k: usize) -> usize {
        match self.road {
            Road::Tree(_) | Road::Graph(_) => 0,
            Road::Products(_) => {
                predicted_search_bytes(self.points().len(), self.dimensions, rows, k)
            }
        }
    }
}

/// Bytes of a [`Base`].
pub(super) fn predicted_bytes<T>(points: usize, dimensions: usize, metric: Metric) -> usize {
    let road = if tree_pays(points, dimensions, metric) {
        tree::predicted_bytes(points)
    } else {
        Prepared::predicted_bytes(points, dimensions, metric)
    };
    points * dimensions * size_of::<T>() + road
}
