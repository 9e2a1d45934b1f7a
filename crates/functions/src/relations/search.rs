//! The arguments of a search for neighbours: how many, by which metric, and in which way.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use lakefold_manifold::{ApproximateIndex, HnswOptions, Metric, NeighborMethod};

use super::call::{Call, Parameter};
use super::search_arguments::{EF_CONSTRUCTION, EF_SEARCH, M, METHOD, SEED};
use crate::index::IndexHeader;
use crate::indexed_rows::IndexKind;

/// As asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Auto,
    Is(NeighborMethod),
}

/// What is searched for, and how.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "ef_search is the field's term")]
pub(super) struct Search {
    pub(super) k: usize,
    pub(super) metric: Metric,
    pub(super) method: Method,
    pub(super) given: GivenOptions,
    /// Of the graph.
    pub(super) options: HnswOptions,
    pub(super) ef_search: usize,
    /// Of the index whose graph it is; `None` where one would be built.
    pub(super) stored: Option<Arc<IndexHeader>>,
}

/// Options of a graph as far as they were given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GivenOptions {
    m: Option<usize>,
    ef_construction: Option<usize>,
    seed: Option<u64>,
}

impl GivenOptions {
    fn or_defaults(self) -> HnswOptions {
        let defaults = HnswOptions::default();
        HnswOptions {
            m: self.m.unwrap_or(defaults.m),
            ef_construction: self.ef_construction.unwrap_or(defaults.ef_construction),
            seed: self.seed.unwrap_or(defaults.seed),
        }
    }

    /// Whether an index was built with them.
    fn are_of(self, index: &IndexHeader) -> bool {
        self.m.is_none_or(|m| m == index.m)
            && self.seed.is_none_or(|seed| seed == index.seed)
            && (self.ef_construction).is_none_or(|kept| kept == index.ef_construction)
    }
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
        let number = |parameter: &Parameter| {
            let number = call.whole_number(parameter.name, 1)?;
            Ok::<_, DataFusionError>(number.map(|n| n as usize))
        };
        let given = GivenOptions {
            m: number(&M)?,
            ef_construction: number(&EF_CONSTRUCTION)?,
            seed: call.whole_number(SEED.name, 0)?,
        };
        let options = given.or_defaults();
        options
            .check()
            .map_err(|error| plan_datafusion_err!("{function}: {error}"))?;
        let default = ApproximateIndex::<f32>::default_ef_search(k).min(HnswOptions::LARGEST_EF);
        let ef_search = number(&EF_SEARCH)?.unwrap_or(default);
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
            given,
            options,
            ef_search,
            stored: None,
        })
    }

    /// Whether an index was built as asked for.
    pub(super) fn suits(&self, index: &IndexHeader) -> bool {
        self.given.are_of(index)
    }

    /// The same through the graph of an index.
    pub(super) fn through(&self, index: &Arc<IndexHeader>) -> Self {
        Self {
            options: HnswOptions {
                m: index.m,
                ef_construction: index.ef_construction,
                seed: index.seed,
            },
            stored: Some(Arc::clone(index)),
            ..self.clone()
        }
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
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k={}, metric={}", self.k, self.metric)
    }
}

/// The dimensions of a column of lists, if its type tells.
pub(super) fn known_dimensions(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeList(_, size) => Some(*size as usize),
        _ => None,
    }
}
