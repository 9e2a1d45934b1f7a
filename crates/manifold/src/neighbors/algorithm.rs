//! Which neighbours a fit looks for: all of the nearest, or most of them.

use super::approximate::ApproximateIndex;
use super::{Metric, Search};
use crate::{HnswOptions, ManifoldError, NeighborCost, NeighborMethod, Result};

/// How the neighbours of a fit's rows are found. scikit-learn has a parameter of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum NeighborsAlgorithm {
    /// Exactly, unless a graph is expected to be faster: a cost model of rows, dimensions and neighbours
    /// decides, which reads no clock.
    #[default]
    Auto,
    /// Every neighbour is the nearest.
    Exact,
    /// Through an HNSW graph: most neighbours are the nearest, in less time where rows are many.
    Hnsw,
}

impl NeighborsAlgorithm {
    /// The names of [`NeighborsAlgorithm::parse`].
    pub const NAMES: [&str; 3] = ["auto", "exact", "hnsw"];

    /// The spelling that [`NeighborsAlgorithm::parse`] reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Exact => "exact",
            Self::Hnsw => "hnsw",
        }
    }

    /// Reads a name, in any case.
    ///
    /// # Errors
    /// [`ManifoldError::InvalidParameter`] that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::Auto, Self::Exact, Self::Hnsw]
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| ManifoldError::InvalidParameter {
                name: "neighbors_algorithm",
                value: format!("'{name}'"),
                requirement: format!("one of {}", Self::NAMES.join(", ")),
            })
    }

    /// What this stands for where the `k` nearest of `rows` rows are sought for each of them, among each other
    /// or for as many others.
    pub(crate) fn resolve(
        self,
        rows: usize,
        dimensions: usize,
        k: usize,
        self_join: bool,
    ) -> NeighborMethod {
        match self {
            Self::Exact => NeighborMethod::Exact,
            Self::Hnsw => NeighborMethod::Hnsw,
            Self::Auto if Search::of(Metric::L2, dimensions) == Search::Tree => {
                NeighborMethod::Exact
            }
            Self::Auto => {
                let cost = NeighborCost {
                    rows,
                    queries: rows,
                    self_join,
                    dimensions,
                    k,
                    metric: Metric::L2,
                    options: HnswOptions::default(),
                    ef_search: ApproximateIndex::<f32>::default_ef_search(k),
                    is_built: false,
                };
                cost.choose().method
            }
        }
    }
}
