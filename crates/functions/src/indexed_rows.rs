//! Rows in memory that are searched: exactly, or through a graph.

use std::ops::Range;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use lakefold_manifold::{
    ApproximateIndex, Control, ExactIndex, Feature, Hnsw, HnswAudit, HnswOptions, ManifoldError,
    Metric, Nearest, NeighborMethod,
};
use ndarray::{Array2, ArrayView2, s};

use crate::features::Matrix;
use crate::held_rows::{Source, Values};
use crate::memory::{Budget, array_bytes};

/// Rows in their order, see [`crate::row_order`], before they are searched.
pub(crate) struct SortedRows {
    pub(crate) ids: ArrayRef,
    /// Bytes of one of them, on average.
    pub(crate) id_bytes: usize,
    pub(crate) features: Values,
    pub(crate) dimensions: usize,
    pub(crate) source: Source,
    /// Of all that is held.
    pub(crate) budget: Budget,
}

/// How rows are to be searched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexKind {
    pub(crate) method: NeighborMethod,
    /// Of a graph.
    pub(crate) options: HnswOptions,
    pub(crate) ef_search: usize,
}

impl SortedRows {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Bytes that making an index takes beyond the features.
    pub(crate) fn index_bytes(&self, kind: &IndexKind) -> usize {
        let (rows, dimensions, metric) = (self.len(), self.dimensions, self.source.metric);
        match (kind.method, &self.features) {
            (NeighborMethod::Exact, Values::Float32(_)) => {
                let all = ExactIndex::<f32>::predicted_bytes(rows, dimensions, metric);
                all.saturating_sub(rows * dimensions * size_of::<f32>())
            }
            (NeighborMethod::Exact, Values::Float64(_)) => {
                let all = ExactIndex::<f64>::predicted_bytes(rows, dimensions, metric);
                all.saturating_sub(rows * dimensions * size_of::<f64>())
            }
            (NeighborMethod::Hnsw, Values::Float32(_)) => {
                ApproximateIndex::<f32>::predicted_bytes(rows, dimensions, &kind.options)
            }
            (NeighborMethod::Hnsw, Values::Float64(_)) => {
                ApproximateIndex::<f64>::predicted_bytes(rows, dimensions, &kind.options)
            }
        }
    }

    /// Makes the index. Memory is taken here, not from `control`.
    pub(crate) fn index(self, kind: &IndexKind, control: &dyn Control) -> Result<HeldRows> {
        let purpose = match kind.method {
            NeighborMethod::Exact => "an index of the features",
            NeighborMethod::Hnsw => "an HNSW index of the features",
        };
        self.budget
            .reserve(purpose, self.index_bytes(kind))
            .map_err(|error| self.source.exhausted(&error))?;
        let (metric, dimensions) = (self.source.metric, self.dimensions);
        let index = match self.features {
            Values::Float32(values) => {
                make(matrix(values, dimensions)?, metric, kind, control).map(Index::Float32)
            }
            Values::Float64(values) => {
                make(matrix(values, dimensions)?, metric, kind, control).map(Index::Float64)
            }
        };
        Ok(HeldRows {
            index: index.map_err(|error| self.source.failed(&error))?,
            id_bytes: self.id_bytes,
            ids: self.ids,
            is_stored: false,
            source: self.source,
            budget: self.budget,
        })
    }
}

fn make<T: Feature>(
    rows: Array2<T>,
    metric: Metric,
    kind: &IndexKind,
    control: &dyn Control,
) -> Result<Searched<T>, ManifoldError> {
    match kind.method {
        NeighborMethod::Exact => ExactIndex::new(rows, metric).map(Searched::Exactly),
        NeighborMethod::Hnsw => {
            ApproximateIndex::new(rows, metric, &kind.options, kind.ef_search, control)
                .map(|index| Searched::Graph(Box::new(index)))
        }
    }
}

fn matrix<T>(values: Vec<T>, dimensions: usize) -> Result<Array2<T>> {
    Array2::from_shape_vec((values.len() / dimensions, dimensions), values)
        .map_err(|error| exec_datafusion_err!("features changed while they were read: {error}"))
}

/// Rows to be searched.
pub(crate) struct HeldRows {
    index: Index,
    /// By place in the index: in their order, see [`crate::row_order`].
    pub(crate) ids: ArrayRef,
    /// Bytes of one of them, on average.
    pub(crate) id_bytes: usize,
    /// Whether their graph was there.
    is_stored: bool,
    pub(crate) source: Source,
    /// Of all that is held.
    pub(crate) budget: Budget,
}

/// In which way rows are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchedBy {
    /// Each query is compared with all of them.
    Comparing,
    /// A graph that was built for it.
    BuiltGraph,
    /// A graph that was there.
    StoredGraph,
}

enum Index {
    Float32(Searched<f32>),
    Float64(Searched<f64>),
}

enum Searched<T> {
    Exactly(ExactIndex<T>),
    Graph(Box<ApproximateIndex<T>>),
}

impl<T: Feature> Searched<T> {
    fn dimensions(&self) -> usize {
        match self {
            Self::Exactly(index) => index.dimensions(),
            Self::Graph(index) => index.dimensions(),
        }
    }

    fn nearest_others(
        &self,
        rows: Range<usize>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest, ManifoldError> {
        match self {
            Self::Exactly(index) => index.nearest_others(rows, k, control),
            Self::Graph(index) => index.nearest_others(rows, k, control),
        }
    }

    fn nearest(
        &self,
        queries: ArrayView2<'_, T>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest, ManifoldError> {
        match self {
            Self::Exactly(index) => index.nearest(queries, k, control),
            Self::Graph(index) => index.nearest(queries, k, control),
        }
    }

    fn all_distances(
        &self,
        queries: ArrayView2<'_, T>,
        place: usize,
    ) -> Result<Vec<f64>, ManifoldError> {
        match self {
            Self::Exactly(index) => index.all_distances(queries.row(place)),
            Self::Graph(index) => index.all_distances(queries.row(place)),
        }
    }

    fn audit(&self) -> Option<HnswAudit> {
        match self {
            Self::Exactly(_) => None,
            Self::Graph(index) => Some(index.audit()),
        }
    }
}

impl HeldRows {
    /// The rows of a graph that is there, which are in their order.
    pub(crate) fn of_graph(
        graph: Hnsw,
        ef_search: usize,
        ids: ArrayRef,
        source: Source,
        budget: Budget,
    ) -> Self {
        let graph = Box::new(ApproximateIndex::of_graph(graph, ef_search));
        Self {
            index: Index::Float32(Searched::Graph(graph)),
            id_bytes: array_bytes(&ids).div_ceil(ids.len().max(1)),
            ids,
            is_stored: true,
            source,
            budget,
        }
    }

    pub(crate) fn searched_by(&self) -> SearchedBy {
        match self.audit() {
            None => SearchedBy::Comparing,
            Some(_) if self.is_stored => SearchedBy::StoredGraph,
            Some(_) => SearchedBy::BuiltGraph,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn dimensions(&self) -> usize {
        match &self.index {
            Index::Float32(index) => index.dimensions(),
            Index::Float64(index) => index.dimensions(),
        }
    }

    /// What was mended in the graph, if they are searched through one.
    pub(crate) fn audit(&self) -> Option<HnswAudit> {
        match &self.index {
            Index::Float32(index) => index.audit(),
            Index::Float64(index) => index.audit(),
        }
    }

    /// The nearest others of some of its own rows.
    pub(crate) fn nearest_others(
        &self,
        rows: Range<usize>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        match &self.index {
            Index::Float32(index) => index.nearest_others(rows, k, control),
            Index::Float64(index) => index.nearest_others(rows, k, control),
        }
        .map_err(|error| self.source.failed(&error))
    }

    /// The nearest of some `rows` of `queries`, which were read as its own were.
    pub(crate) fn nearest(
        &self,
        queries: &Matrix<'_>,
        rows: Range<usize>,
        k: usize,
        control: &dyn Control,
    ) -> Result<Nearest> {
        match (&self.index, queries) {
            (Index::Float32(index), Matrix::Float32(queries)) => {
                index.nearest(queries.slice(s![rows, ..]), k, control)
            }
            (Index::Float64(index), Matrix::Float64(queries)) => {
                index.nearest(queries.slice(s![rows, ..]), k, control)
            }
            _ => return internal_err!("rows were read as another float type"),
        }
        .map_err(|error| self.source.failed(&error))
    }

    /// The distances from one of `queries` to all rows, in their order.
    pub(crate) fn all_distances(&self, queries: &Matrix<'_>, place: usize) -> Result<Vec<f64>> {
        match (&self.index, queries) {
            (Index::Float32(index), Matrix::Float32(queries)) => {
                index.all_distances(queries.view(), place)
            }
            (Index::Float64(index), Matrix::Float64(queries)) => {
                index.all_distances(queries.view(), place)
            }
            _ => return internal_err!("rows were read as another float type"),
        }
        .map_err(|error| self.source.failed(&error))
    }

    /// How many of what a search through a graph found for `queries` are as near as what there is, see
    /// [`ApproximateIndex::hits`].
    pub(crate) fn hits(
        &self,
        queries: &Matrix<'_>,
        found: ArrayView2<'_, f64>,
        control: &dyn Control,
    ) -> Result<usize> {
        match (&self.index, queries) {
            (Index::Float32(Searched::Graph(index)), Matrix::Float32(queries)) => {
                index.hits(queries.view(), found, control)
            }
            (Index::Float64(Searched::Graph(index)), Matrix::Float64(queries)) => {
                index.hits(queries.view(), found, control)
            }
            _ => return internal_err!("what is searched exactly is not measured"),
        }
        .map_err(|error| self.source.failed(&error))
    }

    /// The same of its own `rows`, searched among the others.
    pub(crate) fn other_hits(
        &self,
        rows: &[usize],
        found: ArrayView2<'_, f64>,
        control: &dyn Control,
    ) -> Result<usize> {
        match &self.index {
            Index::Float32(Searched::Graph(index)) => index.other_hits(rows, found, control),
            Index::Float64(Searched::Graph(index)) => index.other_hits(rows, found, control),
            _ => return internal_err!("what is searched exactly is not measured"),
        }
        .map_err(|error| self.source.failed(&error))
    }
}
