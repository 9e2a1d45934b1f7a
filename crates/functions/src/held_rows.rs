//! Rows that are held in memory for their neighbours to be found: ids and features.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{concat, filter, take};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::StreamExt;
use lakefold_manifold::{
    Control, ExactIndex, Feature, ManifoldError, Metric, Nearest, ReserveError, check_features,
};
use ndarray::{Array2, ArrayView2, s};

use crate::evaluator::off_the_async_threads;
use crate::features::{Matrix, Site, check_dimensions, extract, measure};
use crate::fit::row_error;
use crate::fit_task::blocking;
use crate::float_lists::FloatType;
use crate::memory::{Budget, array_bytes, resources_exhausted};
use crate::row_order;

/// Which rows are read, and as what.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The function's name in SQL.
    pub(crate) function: &'static str,
    /// The features as written.
    pub(crate) column: String,
    pub(crate) float: FloatType,
    pub(crate) metric: Metric,
}

/// The rows of a batch whose features are not NULL, at least one.
pub(crate) struct Rows<'a> {
    pub(crate) ids: ArrayRef,
    pub(crate) features: Matrix<'a>,
    /// Which rows of the batch they are.
    pub(crate) present: BooleanBuffer,
}

impl Rows<'_> {
    pub(crate) fn into_owned(self) -> Rows<'static> {
        Rows {
            ids: self.ids,
            features: self.features.into_owned(),
            present: self.present,
        }
    }
}

impl Source {
    /// Reads a batch of ids and features; `None` where all features are NULL. `dimensions` are those of the
    /// batches before it.
    ///
    /// # Errors
    /// Names the column and the row of what is no vector of that many finite numbers or, under cosine
    /// distance, has no direction.
    pub(crate) fn read<'a>(
        &self,
        batch: &'a RecordBatch,
        dimensions: &mut Option<usize>,
    ) -> Result<Option<Rows<'a>>> {
        let site = self.site(batch);
        let lists = std::slice::from_ref(batch.column(1));
        let extent = measure(lists, &site)?;
        if extent.rows == 0 {
            return Ok(None);
        }
        check_dimensions(dimensions, &extent, &site)?;
        let features = extract(lists, extent, self.float)?;
        match &features.matrix {
            Matrix::Float32(rows) => check(rows.view(), self.metric),
            Matrix::Float64(rows) => check(rows.view(), self.metric),
        }
        .map_err(|error| row_error(&error, &site, &features.present))?;
        let present = BooleanArray::new(features.present.clone(), None);
        Ok(Some(Rows {
            ids: filter(batch.column(0), &present)?,
            features: features.matrix,
            present: features.present,
        }))
    }

    /// For errors about rows of `batch`, one of many.
    pub(crate) fn site(&self, batch: &RecordBatch) -> Site {
        Site {
            function: self.function,
            column: self.column.clone(),
            batches: vec![batch.clone()],
            streamed: true,
            ..Site::default()
        }
    }

    fn failed(&self, error: &ManifoldError) -> DataFusionError {
        if let ManifoldError::Memory(refusal) = error {
            self.exhausted(refusal)
        } else {
            exec_datafusion_err!("{} of column {}: {error}", self.function, self.column)
        }
    }

    /// What a fit calls `n_neighbors` is k here.
    pub(crate) fn exhausted(&self, error: &ReserveError) -> DataFusionError {
        let subject = format!("{} of column {}", self.function, self.column);
        match resources_exhausted(&subject, error) {
            DataFusionError::ResourcesExhausted(text) => DataFusionError::ResourcesExhausted(
                text.replace("fewer n_neighbors", "a smaller k"),
            ),
            other => other,
        }
    }
}

fn check<T: Feature + Default>(
    rows: ArrayView2<'_, T>,
    metric: Metric,
) -> std::result::Result<(), ManifoldError> {
    check_features(rows)?;
    let zero = T::default();
    let mut directions = rows.rows().into_iter();
    match directions.position(|row| metric == Metric::Cosine && row.iter().all(|v| *v == zero)) {
        Some(row) => Err(ManifoldError::ZeroVector { row }),
        None => Ok(()),
    }
}

/// Collects rows, whose memory it takes from the pool.
pub(crate) struct Collector {
    source: Source,
    budget: Budget,
    dimensions: Option<usize>,
    ids: Vec<ArrayRef>,
    features: Values,
}

/// Row by row.
enum Values {
    Float32(Vec<f32>),
    Float64(Vec<f64>),
}

impl Collector {
    /// Adds all batches of `input`; `None` where no row has features.
    pub(crate) async fn collect(
        mut self,
        mut input: SendableRecordBatchStream,
        baseline: &BaselineMetrics,
    ) -> Result<Option<HeldRows>> {
        while let Some(batch) = input.next().await.transpose()? {
            let _timer = baseline.elapsed_compute().timer();
            off_the_async_threads(|| self.add(&batch))?;
        }
        drop(input);
        let _timer = baseline.elapsed_compute().timer();
        blocking(move || self.finish()).await
    }

    pub(crate) fn new(source: Source, budget: Budget) -> Self {
        let features = match source.float {
            FloatType::Float32 => Values::Float32(vec![]),
            FloatType::Float64 => Values::Float64(vec![]),
        };
        Self {
            source,
            budget,
            dimensions: None,
            ids: vec![],
            features,
        }
    }

    /// Adds a batch of ids and features.
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(rows) = self.source.read(batch, &mut self.dimensions)? else {
            return Ok(());
        };
        let grown = match (&mut self.features, &rows.features) {
            (Values::Float32(values), Matrix::Float32(rows)) => {
                append(values, rows.view(), &self.budget)
            }
            (Values::Float64(values), Matrix::Float64(rows)) => {
                append(values, rows.view(), &self.budget)
            }
            _ => return internal_err!("rows were read as another float type"),
        };
        grown
            .and_then(|()| {
                let bytes = array_bytes(&rows.ids);
                self.budget.reserve("the ids of the rows to search", bytes)
            })
            .map_err(|error| self.source.exhausted(&error))?;
        self.ids.push(rows.ids);
        Ok(())
    }

    /// Makes an index of what was collected; `None` where there was nothing.
    fn finish(self) -> Result<Option<HeldRows>> {
        let Some(dimensions) = self.dimensions else {
            return Ok(None);
        };
        let rows: usize = self.ids.iter().map(Array::len).sum();
        if u32::try_from(rows).is_err() {
            return exec_err!(
                "{} holds at most {} rows, got {rows}: search a part of them (WHERE)",
                self.source.function,
                u32::MAX
            );
        }
        let parts: Vec<&dyn Array> = self.ids.iter().map(AsRef::as_ref).collect();
        let id_bytes = parts.iter().map(|ids| array_bytes(*ids)).sum();
        let reserve = |purpose, bytes| self.budget.reserve(purpose, bytes);
        reserve("the ids of the rows to search", id_bytes)
            .map_err(|error| self.source.exhausted(&error))?;
        let mut ids = concat(&parts)?;
        drop(self.ids);
        self.budget.release(id_bytes);
        let sorting = row_order::predicted_bytes(rows, id_bytes) + id_bytes;
        self.budget
            .reserve("sorting the rows to search", sorting)
            .map_err(|error| self.source.exhausted(&error))?;
        let mut features = self.features;
        match &mut features {
            Values::Float32(values) => sort(&mut ids, values, dimensions)?,
            Values::Float64(values) => sort(&mut ids, values, dimensions)?,
        }
        self.budget.release(sorting);
        let metric = self.source.metric;
        let (held, all) = match self.source.float {
            FloatType::Float32 => (
                4,
                ExactIndex::<f32>::predicted_bytes(rows, dimensions, metric),
            ),
            FloatType::Float64 => (
                8,
                ExactIndex::<f64>::predicted_bytes(rows, dimensions, metric),
            ),
        };
        let more = all.saturating_sub(rows * dimensions * held);
        self.budget
            .reserve("an index of the features", more)
            .map_err(|error| self.source.exhausted(&error))?;
        let index = match features {
            Values::Float32(values) => {
                ExactIndex::new(matrix(values, dimensions)?, metric).map(Index::Float32)
            }
            Values::Float64(values) => {
                ExactIndex::new(matrix(values, dimensions)?, metric).map(Index::Float64)
            }
        };
        Ok(Some(HeldRows {
            index: index.map_err(|error| self.source.failed(&error))?,
            id_bytes: id_bytes.div_ceil(rows),
            ids,
            source: self.source,
            budget: self.budget,
        }))
    }
}

/// Ties are broken by place: rows in the order of their ids are the same whatever order they came in.
fn sort<T: Feature + Into<f64>>(
    ids: &mut ArrayRef,
    features: &mut [T],
    dimensions: usize,
) -> Result<()> {
    let order = row_order::order(ids, features, dimensions)?;
    if !order.is_sorted() {
        *ids = take(ids, &UInt32Array::from(order.clone()), None)?;
        row_order::permute(features, dimensions, order);
    }
    Ok(())
}

/// Grows by doubling, as a vector does, but asks before.
fn append<T: Feature>(
    values: &mut Vec<T>,
    rows: ArrayView2<'_, T>,
    budget: &Budget,
) -> std::result::Result<(), ReserveError> {
    let needed = values.len() + rows.len();
    if needed > values.capacity() {
        let capacity = needed.max(2 * values.capacity());
        let bytes = (capacity - values.capacity()) * size_of::<T>();
        budget.reserve("the features of the rows to search", bytes)?;
        values.reserve_exact(capacity - values.len());
    }
    values.extend(rows.iter().copied());
    Ok(())
}

fn matrix<T>(values: Vec<T>, dimensions: usize) -> Result<Array2<T>> {
    Array2::from_shape_vec((values.len() / dimensions, dimensions), values)
        .map_err(|error| exec_datafusion_err!("features changed while they were read: {error}"))
}

/// Rows to be searched.
pub(crate) struct HeldRows {
    index: Index,
    /// By place in the index: in their order, see [`row_order`].
    pub(crate) ids: ArrayRef,
    /// Bytes of one of them, on average.
    pub(crate) id_bytes: usize,
    pub(crate) source: Source,
    /// Of all that is held.
    pub(crate) budget: Budget,
}

enum Index {
    Float32(ExactIndex<f32>),
    Float64(ExactIndex<f64>),
}

impl HeldRows {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn dimensions(&self) -> usize {
        match &self.index {
            Index::Float32(index) => index.dimensions(),
            Index::Float64(index) => index.dimensions(),
        }
    }

    /// The nearest others of some of its own rows.
    pub(crate) fn nearest_others(
        &self,
        rows: std::ops::Range<usize>,
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
        rows: std::ops::Range<usize>,
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
}
