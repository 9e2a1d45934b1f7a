//! Rows that are collected in memory for their neighbours to be found: ids and features.

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{filter, take};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::StreamExt;
use lakefold_manifold::{Feature, ManifoldError, Metric, ReserveError, check_features};
use ndarray::ArrayView2;

use crate::evaluator::off_the_async_threads;
use crate::features::{Matrix, Site, check_dimensions, extract, measure};
use crate::fit::row_error;
use crate::fit_task::blocking;
use crate::float_lists::FloatType;
use crate::held_ids::HeldIds;
use crate::indexed_rows::SortedRows;
use crate::memory::{Budget, resources_exhausted};
use crate::row_order::{self, By};

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

    pub(crate) fn failed(&self, error: &ManifoldError) -> DataFusionError {
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

/// What is made of each batch before its rows are held.
pub(crate) type Prepare<'a> = dyn FnMut(&RecordBatch) -> Result<RecordBatch> + Send + 'a;

/// Collects rows, whose memory it takes from the pool.
pub(crate) struct Collector {
    source: Source,
    budget: Budget,
    dimensions: Option<usize>,
    ids: HeldIds,
    features: Values,
    by: By,
}

/// Row by row.
pub(crate) enum Values {
    Float32(Vec<f32>),
    Float64(Vec<f64>),
}

impl Collector {
    /// Adds all batches of `input` as `prepare` makes them; `None` where no row has features.
    pub(crate) async fn collect(
        mut self,
        mut input: SendableRecordBatchStream,
        prepare: &mut Prepare<'_>,
        baseline: &BaselineMetrics,
    ) -> Result<Option<SortedRows>> {
        while let Some(batch) = input.next().await.transpose()? {
            let _timer = baseline.elapsed_compute().timer();
            off_the_async_threads(|| self.add(&prepare(&batch)?))?;
        }
        drop(input);
        let _timer = baseline.elapsed_compute().timer();
        blocking(move || self.finish()).await
    }

    /// Of rows that are to be in an order.
    pub(crate) fn new(source: Source, by: By, budget: Budget) -> Self {
        let features = match source.float {
            FloatType::Float32 => Values::Float32(vec![]),
            FloatType::Float64 => Values::Float64(vec![]),
        };
        Self {
            source,
            budget,
            dimensions: None,
            ids: HeldIds::default(),
            features,
            by,
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
            .and_then(|()| self.ids.push(rows.ids, &self.budget))
            .map_err(|error| self.source.exhausted(&error))
    }

    /// Puts what was collected in order; `None` where there was nothing.
    fn finish(self) -> Result<Option<SortedRows>> {
        let Some(dimensions) = self.dimensions else {
            return Ok(None);
        };
        let (rows, id_bytes) = (self.ids.len(), self.ids.bytes());
        if u32::try_from(rows).is_err() {
            return exec_err!(
                "{} holds at most {} rows, got {rows}: search a part of them (WHERE)",
                self.source.function,
                u32::MAX
            );
        }
        let mut ids = self.ids.concat(&self.source, &self.budget)?;
        let sorting = row_order::reserve(&self.source, &self.budget, rows, id_bytes)?;
        let mut features = self.features;
        match &mut features {
            Values::Float32(values) => sort(&mut ids, values, dimensions, self.by)?,
            Values::Float64(values) => sort(&mut ids, values, dimensions, self.by)?,
        }
        drop(sorting);
        Ok(Some(SortedRows {
            id_bytes: id_bytes.div_ceil(rows),
            ids,
            features,
            dimensions,
            source: self.source,
            budget: self.budget,
        }))
    }
}

/// Ties are broken by place: rows in the order of their ids are the same whatever order they came in, and so
/// are rows in the order of their features.
fn sort<T: Feature + Into<f64>>(
    ids: &mut ArrayRef,
    features: &mut [T],
    dimensions: usize,
    by: By,
) -> Result<()> {
    let order = row_order::order(by, ids, row_order::rows(features, dimensions))?;
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
