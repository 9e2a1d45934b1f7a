//! What is faster, a search of all rows or one through a graph, and what plans say of it.

use lakefold_manifold::{HnswOptions, NeighborCost, NeighborMethod, exact_tree_pays};

use super::search::{Method, Search};

impl Search {
    fn cost(&self, rows: usize, queries: usize, dimensions: usize) -> NeighborCost {
        NeighborCost {
            rows,
            queries,
            // Results are computed in parts as they are read, which compares each pair twice.
            self_join: false,
            dimensions,
            k: self.k,
            metric: self.metric,
            options: self.options,
            ef_search: self.ef_search,
            is_built: self.stored.is_some(),
        }
    }

    /// What is faster for so many queries.
    pub(super) fn choose(&self, rows: usize, queries: usize, dimensions: usize) -> NeighborMethod {
        if exact_tree_pays(rows, dimensions, self.metric) {
            return NeighborMethod::Exact;
        }
        self.cost(rows, queries, dimensions).choose().method
    }

    /// Of a search through the graph: as it was measured when an index was built.
    fn expected_recall(&self) -> f64 {
        let measured = self.stored.as_ref();
        let measured = measured.and_then(|index| index.expected_recall(self.ef_search.max(self.k)));
        measured.unwrap_or_else(|| self.cost(1, 1, 1).expected_recall())
    }

    /// The graph, for plans.
    fn graph(&self) -> String {
        let (ef_search, recall) = (self.ef_search, self.expected_recall());
        let HnswOptions {
            m, ef_construction, ..
        } = self.options;
        let which = match &self.stored {
            Some(index) => format!("index={}", index.name),
            None => format!("m={m}, ef_construction={ef_construction}"),
        };
        format!("hnsw ({which}, ef_search={ef_search}, expected recall {recall:.3})")
    }

    /// The fewest queries for which a graph pays, if any number does.
    pub(super) fn least_queries(&self, rows: usize, dimensions: usize) -> Option<usize> {
        least(|queries| self.choose(rows, queries, dimensions) == NeighborMethod::Hnsw)
    }

    /// `method=…` for plans. `rows` are searched, for `queries` rows; `None` where nobody knows yet.
    pub(super) fn describe(
        &self,
        rows: Option<usize>,
        queries: Option<usize>,
        dimensions: Option<usize>,
    ) -> String {
        let graph = self.graph();
        match (self.method, rows, queries, dimensions) {
            (Method::Is(NeighborMethod::Exact), ..) => "method=exact".to_owned(),
            (Method::Is(NeighborMethod::Hnsw), ..) => format!("method={graph}"),
            (Method::Auto, Some(rows), Some(queries), Some(dimensions)) => {
                match self.choose(rows, queries, dimensions) {
                    NeighborMethod::Exact => "method=auto: exact".to_owned(),
                    NeighborMethod::Hnsw => format!("method=auto: {graph}"),
                }
            }
            (Method::Auto, None, _, Some(dimensions)) => {
                let method = |rows| self.choose(rows, queries.unwrap_or(rows), dimensions);
                match least(|rows| method(rows) == NeighborMethod::Hnsw) {
                    None => "method=auto: exact".to_owned(),
                    Some(rows) => {
                        format!("method=auto: exact up to {} rows, beyond {graph}", rows - 1)
                    }
                }
            }
            (Method::Auto, Some(rows), None, Some(dimensions)) => {
                match self.least_queries(rows, dimensions) {
                    None => "method=auto: exact".to_owned(),
                    // A graph that is there pays from the first one on.
                    Some(0 | 1) => format!("method=auto: {graph}"),
                    Some(queries) => format!(
                        "method=auto: exact up to {} queries, beyond {graph}",
                        queries - 1
                    ),
                }
            }
            (Method::Auto, _, _, None) => {
                "method=auto: exact or hnsw, by rows and dimensions".to_owned()
            }
        }
    }
}

/// The smallest number for which `holds`, if it holds for all from there on.
fn least(holds: impl Fn(usize) -> bool) -> Option<usize> {
    const MOST: usize = u32::MAX as usize;
    if !holds(MOST) {
        return None;
    }
    let (mut fails, mut enough) = (0, MOST);
    while enough - fails > 1 {
        let middle = fails + (enough - fails) / 2;
        if holds(middle) {
            enough = middle;
        } else {
            fails = middle;
        }
    }
    Some(enough)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lakefold_manifold::Metric;

    use super::*;
    use crate::index::{IndexHeader, RecallPoint};
    use crate::relations::search::GivenOptions;

    fn search(method: Method) -> Search {
        Search {
            k: 10,
            metric: Metric::L2,
            method,
            given: GivenOptions::default(),
            options: HnswOptions::default(),
            ef_search: 64,
            stored: None,
        }
    }

    #[test]
    fn more_queries_are_what_a_graph_pays_for() {
        let search = search(Method::Auto);
        let queries = search.least_queries(1_000_000, 64).unwrap();
        let method = |queries| search.choose(1_000_000, queries, 64);
        assert_eq!(method(queries), NeighborMethod::Hnsw);
        assert_eq!(method(queries - 1), NeighborMethod::Exact);
        // A k-d tree answers at once.
        assert_eq!(search.least_queries(1_000_000, 3), None);
        assert_eq!(least(|n| n > 7), Some(8));
        assert_eq!(least(|_| false), None);
    }

    #[test]
    fn plans_say_what_is_known() {
        let auto = search(Method::Auto);
        let text = auto.describe(None, None, Some(64));
        assert!(text.starts_with("method=auto: exact up to "), "{text}");
        assert!(
            text.contains(
                " rows, beyond hnsw (m=16, ef_construction=200, ef_search=64, expected recall 0."
            ),
            "{text}"
        );
        let text = auto.describe(Some(1_000_000), None, Some(64));
        assert!(text.contains(" queries, beyond hnsw (m=16"), "{text}");
        let text = auto.describe(Some(1_000_000), Some(1_000_000), Some(64));
        assert!(text.starts_with("method=auto: hnsw (m=16"), "{text}");
        assert_eq!(
            auto.describe(Some(100), Some(100), Some(64)),
            "method=auto: exact"
        );
        assert_eq!(auto.describe(None, None, Some(3)), "method=auto: exact");
        assert_eq!(
            auto.describe(Some(100), Some(100), None),
            "method=auto: exact or hnsw, by rows and dimensions"
        );
        let exact = search(Method::Is(NeighborMethod::Exact));
        assert_eq!(exact.describe(None, None, None), "method=exact");
        let hnsw = search(Method::Is(NeighborMethod::Hnsw));
        assert_eq!(
            hnsw.describe(None, None, None),
            format!(
                "method=hnsw (m=16, ef_construction=200, ef_search=64, expected recall {:.3})",
                hnsw.cost(1, 1, 1).expected_recall()
            )
        );
    }

    #[test]
    fn an_index_is_named_with_the_recall_that_was_measured() {
        let header = IndexHeader {
            name: "by_meaning".to_owned(),
            m: 24,
            ef_construction: 100,
            recall: vec![RecallPoint {
                ef_search: 64,
                recall: 0.9824,
            }],
            ..IndexHeader::default()
        };
        let header = Arc::new(header);
        let graph = "hnsw (index=by_meaning, ef_search=64, expected recall 0.982)";
        let hnsw = search(Method::Is(NeighborMethod::Hnsw)).through(&header);
        assert_eq!(hnsw.describe(None, None, None), format!("method={graph}"));
        assert_eq!((hnsw.options.m, hnsw.options.ef_construction), (24, 100));
        let auto = search(Method::Auto).through(&header);
        assert_eq!(
            auto.describe(Some(1_000_000), None, Some(64)),
            format!("method=auto: {graph}")
        );
        // Few rows are compared before anything is found in a graph.
        assert_eq!(
            auto.describe(Some(1000), None, Some(64)),
            "method=auto: exact"
        );
        assert!(search(Method::Auto).suits(&header));
    }
}
