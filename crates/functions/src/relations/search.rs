//! The arguments of a search for neighbours: how many, by which metric, and in which way.

use std::fmt;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use lakefold_manifold::{
    ApproximateIndex, HnswOptions, Metric, NeighborChoice, NeighborCost, NeighborMethod,
    exact_tree_pays,
};

use super::call::{Call, Parameter};
use crate::indexed_rows::IndexKind;

/// Of every function that searches.
pub(super) const METHOD: Parameter = Parameter::value("method");
pub(super) const EF_SEARCH: Parameter = Parameter::value("ef_search");
pub(super) const M: Parameter = Parameter::value("m");
pub(super) const EF_CONSTRUCTION: Parameter = Parameter::value("ef_construction");
pub(super) const SEED: Parameter = Parameter::value("seed");

/// What those mean.
pub(super) const METHOD_ARGUMENTS: &[(&str, &str)] = &[
    (
        "method",
        "`exact`: all rows are compared. `hnsw`: through a graph (Malkov and Yashunin 2018) that is built for this \
         call and finds most of the nearest rows. `auto`: whichever a cost model of rows, dimensions and k \
         expects to be faster, and `exact` where the memory limit has no room for a graph; EXPLAIN shows the \
         choice and the recall to expect, EXPLAIN ANALYZE the recall measured on a sample of up to 100 \
         queries. `auto` when omitted.",
    ),
    (
        "ef_search",
        "Rows that a search through the graph keeps in view: more find more and take longer. 64 or twice `k`, \
         whichever is more, when omitted.",
    ),
    (
        "m",
        "Edges of a row in the graph, from 2 to 256; twice as many on its lowest level. 16 when omitted.",
    ),
    (
        "ef_construction",
        "Rows kept in view while the graph is built, at least `m`. 200 when omitted.",
    ),
    ("seed", "Of the graph. 0 when omitted."),
];

/// The arguments of `knn` and `knn_join` after those that name rows, and what they mean.
pub(super) const SEARCH_ARGUMENTS: &[(&str, &str)] = &[
    (
        "k",
        "Neighbours of each row; an error if there are not as many. 12 when omitted.",
    ),
    (
        "metric",
        "`l2`: Euclidean distance, as `array_distance` gives it. `cosine`: 1 less the cosine of the angle, \
         from 0 to 2, as `cosine_distance` gives it. `inner_product` or `ip`: the product itself, as \
         `inner_product` gives it, the largest first. `l2` when omitted.",
    ),
];

/// As asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Auto,
    Is(NeighborMethod),
}

/// What is searched for, and how.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "ef_search is the field's term")]
pub(super) struct Search {
    pub(super) k: usize,
    pub(super) metric: Metric,
    method: Method,
    options: HnswOptions,
    ef_search: usize,
}

impl Search {
    /// The arguments of `knn` and `knn_join`.
    pub(super) fn of(call: &Call, function: &str) -> Result<Self> {
        let metric = match call.text("metric")? {
            None => Metric::default(),
            Some(name) => {
                Metric::parse(&name).map_err(|error| plan_datafusion_err!("{function}: {error}"))?
            }
        };
        let k = call.whole_number("k", 1)?.unwrap_or(12);
        Self::with(call, function, k as usize, metric)
    }

    /// Those that every search has.
    pub(super) fn with(call: &Call, function: &str, k: usize, metric: Metric) -> Result<Self> {
        let method = match call
            .text(METHOD.name)?
            .map(|name| name.to_ascii_lowercase())
        {
            None => Method::Auto,
            Some(name) => match name.as_str() {
                "auto" => Method::Auto,
                "exact" => Method::Is(NeighborMethod::Exact),
                "hnsw" => Method::Is(NeighborMethod::Hnsw),
                _ => {
                    return plan_err!(
                        "method of {function} must be one of auto, exact, hnsw, got '{name}'"
                    );
                }
            },
        };
        let number = |parameter: &Parameter, default: usize| {
            let number = call.whole_number(parameter.name, 1)?;
            Ok::<_, datafusion::common::DataFusionError>(number.map_or(default, |n| n as usize))
        };
        let options = HnswOptions {
            m: number(&M, HnswOptions::DEFAULT_M)?,
            ef_construction: number(&EF_CONSTRUCTION, HnswOptions::DEFAULT_EF_CONSTRUCTION)?,
            seed: call.whole_number(SEED.name, 0)?.unwrap_or(0),
        };
        options
            .check()
            .map_err(|error| plan_datafusion_err!("{function}: {error}"))?;
        let default = ApproximateIndex::<f32>::default_ef_search(k).min(HnswOptions::LARGEST_EF);
        let ef_search = number(&EF_SEARCH, default)?;
        if ef_search > HnswOptions::LARGEST_EF {
            return plan_err!(
                "ef_search of {function} must be from 1 to {}, got {ef_search}",
                HnswOptions::LARGEST_EF
            );
        }
        Ok(Self {
            k,
            metric,
            method,
            options,
            ef_search,
        })
    }

    pub(super) fn index(&self, method: NeighborMethod) -> IndexKind {
        IndexKind {
            method,
            options: self.options,
            ef_search: self.ef_search,
        }
    }

    /// The method that was asked for, if it is not left to the data.
    pub(super) fn asked(&self) -> Option<NeighborMethod> {
        match self.method {
            Method::Auto => None,
            Method::Is(method) => Some(method),
        }
    }

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
            is_built: false,
        }
    }

    /// What is faster for so many queries.
    pub(super) fn choose(&self, rows: usize, queries: usize, dimensions: usize) -> NeighborChoice {
        let mut choice = self.cost(rows, queries, dimensions).choose();
        if exact_tree_pays(rows, dimensions, self.metric) {
            choice.method = NeighborMethod::Exact;
            choice.expected_recall = 1.0;
        }
        choice
    }

    /// The fewest queries for which a graph pays, if any number does.
    pub(super) fn least_queries(&self, rows: usize, dimensions: usize) -> Option<usize> {
        least(|queries| self.choose(rows, queries, dimensions).method == NeighborMethod::Hnsw)
    }

    /// `method=…` for plans. `rows` are searched, for `queries` rows; `None` where nobody knows yet.
    pub(super) fn describe(
        &self,
        rows: Option<usize>,
        queries: Option<usize>,
        dimensions: Option<usize>,
    ) -> String {
        let graph = || {
            let cost = self.cost(
                rows.unwrap_or(1),
                queries.unwrap_or(1),
                dimensions.unwrap_or(1),
            );
            format!(
                "hnsw (m={}, ef_construction={}, ef_search={}, expected recall {:.3})",
                self.options.m,
                self.options.ef_construction,
                self.ef_search,
                cost.expected_recall()
            )
        };
        match (self.method, rows, queries, dimensions) {
            (Method::Is(NeighborMethod::Exact), ..) => "method=exact".to_owned(),
            (Method::Is(NeighborMethod::Hnsw), ..) => format!("method={}", graph()),
            (Method::Auto, Some(rows), Some(queries), Some(dimensions)) => {
                match self.choose(rows, queries, dimensions).method {
                    NeighborMethod::Exact => "method=auto: exact".to_owned(),
                    NeighborMethod::Hnsw => format!("method=auto: {}", graph()),
                }
            }
            (Method::Auto, None, _, Some(dimensions)) => {
                let pays = |rows| {
                    self.choose(rows, queries.unwrap_or(rows), dimensions)
                        .method
                };
                match least(|rows| pays(rows) == NeighborMethod::Hnsw) {
                    None => "method=auto: exact".to_owned(),
                    Some(rows) => format!(
                        "method=auto: exact up to {} rows, beyond {}",
                        rows - 1,
                        graph()
                    ),
                }
            }
            (Method::Auto, Some(rows), None, Some(dimensions)) => {
                match self.least_queries(rows, dimensions) {
                    None => "method=auto: exact".to_owned(),
                    Some(queries) => format!(
                        "method=auto: exact up to {} queries, beyond {}",
                        queries - 1,
                        graph()
                    ),
                }
            }
            (Method::Auto, _, _, None) => {
                "method=auto: exact or hnsw, by rows and dimensions".to_owned()
            }
        }
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k={}, metric={}", self.k, self.metric)
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

/// The dimensions of a column of lists, if its type tells.
pub(super) fn known_dimensions(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeList(_, size) => Some(*size as usize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(method: Method) -> Search {
        Search {
            k: 10,
            metric: Metric::L2,
            method,
            options: HnswOptions::default(),
            ef_search: 64,
        }
    }

    #[test]
    fn more_queries_are_what_a_graph_pays_for() {
        let search = search(Method::Auto);
        let queries = search.least_queries(1_000_000, 64).unwrap();
        let method = |queries| search.choose(1_000_000, queries, 64).method;
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
}
