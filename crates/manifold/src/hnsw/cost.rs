//! Whether to search exactly or through a graph.

use super::HnswOptions;
use crate::Metric;

// In products, see [`NeighborChoice`]: fits to self-joins of 10,000 to 300,000 clustered rows of 64 dimensions, of the
// Debian vectors (384) and of Fashion-MNIST (784) on 2 cores of an Intel Xeon (`bench_hnsw_scale`,
// benches/peers/RESULTS.md), where a product takes about 10 picoseconds. What is chosen depends on their ratios alone,
// which differ less between machines than their seconds do.

/// A look at a product.
const LOOK: f64 = 8.0;
/// Deciding by exact distances what is nearest of what was looked at, for each query.
const DECIDED: f64 = 4e5;
/// A vertex of 64 dimensions kept in view while a row is inserted, where the graph is one step deep.
const KEPT: f64 = 5600.0;
/// The logarithm of the rows up to which a graph stays near the processor.
const SHALLOW: f64 = 3.9;
/// What a comparison costs beside its dimensions, in dimensions.
const BESIDES: f64 = 110.0;
/// A vertex kept in view while a row is sought, against one that is inserted.
const SEARCH: f64 = 0.92;

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

/// What [`NeighborCost::choose`] expects. Work is counted in products: the multiplication and addition of one dimension
/// of a pair of rows in exact search. How long that takes depends on the machine and is not known here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeighborChoice {
    /// The cheaper way.
    pub method: NeighborMethod,
    /// Work of exact search.
    pub exact_work: f64,
    /// Work of searching through the graph, building included unless it is there.
    pub hnsw_work: f64,
    /// Expected recall@k of the chosen way: 1 for exact search.
    pub expected_recall: f64,
}

impl NeighborCost {
    /// The way of less work.
    #[must_use]
    pub fn choose(&self) -> NeighborChoice {
        let exact_work = self.exact_work();
        let hnsw_work = self.hnsw_work();
        let method = if exact_work <= hnsw_work {
            NeighborMethod::Exact
        } else {
            NeighborMethod::Hnsw
        };
        NeighborChoice {
            method,
            exact_work,
            hnsw_work,
            expected_recall: match method {
                NeighborMethod::Exact => 1.0,
                NeighborMethod::Hnsw => self.expected_recall(),
            },
        }
    }

    /// Products of pairs, of which a self-join makes half, and a look at every one of them.
    fn exact_work(&self) -> f64 {
        let products = if self.self_join { 0.5 } else { 1.0 };
        let pair = LOOK + products * self.dimensions as f64;
        self.queries as f64 * (self.rows as f64 * pair + DECIDED)
    }

    fn hnsw_work(&self) -> f64 {
        let depth = ((self.rows.max(2) as f64).ln() - SHALLOW).max(1.0);
        let kept = KEPT * depth * (self.dimensions as f64 + BESIDES) / (64.0 + BESIDES);
        let build = if self.is_built {
            0.0
        } else {
            self.rows as f64 * self.options.ef_construction as f64 * kept
        };
        build + self.queries as f64 * self.ef_search.max(self.k) as f64 * SEARCH * kept
    }

    /// Recall@k that searches through the graph are expected to reach: a fit to what held-out Debian vectors
    /// reached with M 24 and k 10 (benches/peers/RESULTS.md). Images and clustered rows do better.
    #[must_use]
    pub fn expected_recall(&self) -> f64 {
        let views = self.ef_search.max(self.k) as f64 / self.k.max(1) as f64;
        1.0 - (0.045 * (views / 2.0).powf(-1.35)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(rows: usize) -> NeighborCost {
        NeighborCost {
            rows,
            queries: rows,
            self_join: true,
            dimensions: 64,
            k: 12,
            metric: Metric::L2,
            options: HnswOptions::default(),
            ef_search: HnswOptions::DEFAULT_EF_SEARCH,
            is_built: false,
        }
    }

    #[test]
    fn small_tables_are_searched_exactly_and_large_ones_through_a_graph() {
        assert_eq!(join(10_000).choose().method, NeighborMethod::Exact);
        assert_eq!(join(100_000).choose().method, NeighborMethod::Exact);
        assert_eq!(join(1_000_000).choose().method, NeighborMethod::Hnsw);
        // Where they cross, as measured in two runs (benches/peers/RESULTS.md).
        assert_eq!(join(260_000).choose().method, NeighborMethod::Exact);
        assert_eq!(join(350_000).choose().method, NeighborMethod::Hnsw);
        let debian = NeighborCost {
            dimensions: 384,
            ..join(54_988)
        };
        assert_eq!(debian.choose().method, NeighborMethod::Exact);
        let built = NeighborCost {
            is_built: true,
            ..join(1_000_000)
        };
        assert!(built.choose().hnsw_work < join(1_000_000).choose().hnsw_work);
    }

    #[test]
    fn every_query_has_its_cost_however_few_the_rows() {
        let few = NeighborCost {
            is_built: true,
            ef_search: 12,
            ..join(6000)
        };
        let one = NeighborCost { queries: 1, ..few };
        for cost in [few, one] {
            assert_eq!(cost.choose().method, NeighborMethod::Hnsw);
        }
        let work = [few, one].map(|cost| cost.choose().exact_work);
        assert!((work[0] / work[1] - 6000.0).abs() < 1e-6);
    }

    #[test]
    fn recall_grows_with_the_view() {
        let recall = |ef_search| {
            NeighborCost {
                ef_search,
                ..join(100_000)
            }
            .expected_recall()
        };
        assert!(recall(12) > 0.8 && recall(24) > recall(12) && recall(240) > 0.99);
    }
}
