//! Whether to search exactly or through a graph.

use super::HnswOptions;
use crate::Metric;

/// How neighbours are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeighborMethod {
    /// Every pair is compared.
    Exact,
    /// Through an [`super::Hnsw`] graph.
    Hnsw,
}

impl NeighborMethod {
    /// The spelling for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Hnsw => "hnsw",
        }
    }
}

/// A search whose costs are to be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeighborCost {
    /// Rows to be searched (n).
    pub rows: usize,
    /// Rows to be searched for; all of `rows` in a self-join.
    pub queries: usize,
    /// Whether every row is to be searched for among the others: exact search then computes each pair once.
    pub self_join: bool,
    /// Dimensions (D).
    pub dimensions: usize,
    /// Neighbours of each query.
    pub k: usize,
    /// What is searched for.
    pub metric: Metric,
    /// What the graph would be, or was, built with.
    pub options: HnswOptions,
    /// What searches through the graph keep in view.
    pub ef_search: usize,
    /// Whether the graph is there already, so that building it costs nothing.
    pub is_built: bool,
}

/// What [`NeighborCost::choose`] expects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeighborChoice {
    /// The cheaper way.
    pub method: NeighborMethod,
    /// Seconds of exact search.
    pub exact_seconds: f64,
    /// Seconds of searching through the graph, building included unless it is there.
    pub hnsw_seconds: f64,
    /// Expected recall@k of the chosen way: 1 for exact search.
    pub expected_recall: f64,
}

impl NeighborCost {
    /// The cheaper way by estimated seconds.
    #[must_use]
    pub fn choose(&self) -> NeighborChoice {
        let exact_seconds = self.exact_seconds();
        let hnsw_seconds = self.hnsw_seconds();
        let method = if exact_seconds <= hnsw_seconds {
            NeighborMethod::Exact
        } else {
            NeighborMethod::Hnsw
        };
        NeighborChoice {
            method,
            exact_seconds,
            hnsw_seconds,
            expected_recall: match method {
                NeighborMethod::Exact => 1.0,
                NeighborMethod::Hnsw => self.expected_recall(),
            },
        }
    }

    fn exact_seconds(&self) -> f64 {
        let pairs = self.rows as f64 * self.queries as f64 * if self.self_join { 0.5 } else { 1.0 };
        pairs * (self.dimensions as f64 + 16.0) / 5e10
    }

    fn hnsw_seconds(&self) -> f64 {
        let depth = (self.rows.max(2) as f64).ln();
        let visit = |ef: f64| ef * depth * (self.dimensions as f64 + 32.0) * 1e-9;
        let build = if self.is_built {
            0.0
        } else {
            self.rows as f64 * visit(self.options.ef_construction as f64)
        };
        build + self.queries as f64 * visit(self.ef_search.max(self.k) as f64)
    }

    fn expected_recall(&self) -> f64 {
        let ef = self.ef_search.max(self.k) as f64;
        1.0 - 0.5 * self.k as f64 / (ef + self.k as f64) / (self.options.m as f64).sqrt()
    }
}
