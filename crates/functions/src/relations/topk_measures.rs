//! What `attention_topk_error` measures, on which queries.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use lakefold_manifold::{Control, NeighborMethod, Sample, hits};

use super::topk_keys::{Missed, TopKeys};
use super::topk_plan::TopK;
use crate::features::Matrix;
use crate::memory::Budget;

/// The queries to be measured.
pub(super) struct QuerySample {
    limit: usize,
    seed: u64,
    dimensions: Option<usize>,
    present: usize,
    sample: Option<Typed>,
}

enum Typed {
    Float32(Sample<f32>),
    Float64(Sample<f64>),
}

impl QuerySample {
    /// `limit` of them, by `seed`.
    pub(super) fn new(limit: usize, seed: u64) -> Self {
        Self {
            limit,
            seed,
            dimensions: None,
            present: 0,
            sample: None,
        }
    }

    /// Queries so far that are not NULL.
    pub(super) fn present(&self) -> usize {
        self.present
    }

    /// Adds a batch of ids and queries, which need so many dimensions.
    pub(super) fn add(
        &mut self,
        batch: &RecordBatch,
        topk: &TopK,
        need: Option<usize>,
        budget: &Budget,
    ) -> Result<()> {
        let Some(rows) = topk.queries.read(batch, &mut self.dimensions)? else {
            return Ok(());
        };
        if let Some(need) = need {
            topk.check_comparable(&rows, need, batch)?;
        }
        let (count, dimensions) = rows.features.dim();
        self.present += count;
        let (limit, seed) = (self.limit, self.seed);
        if self.sample.is_none() {
            let bytes = match &rows.features {
                Matrix::Float32(_) => Sample::<f32>::bytes(limit, dimensions),
                Matrix::Float64(_) => Sample::<f64>::bytes(limit, dimensions),
            };
            budget
                .reserve("the sample of queries to measure", bytes)
                .map_err(|error| topk.queries.exhausted(&error))?;
        }
        let sample = self.sample.get_or_insert_with(|| match &rows.features {
            Matrix::Float32(_) => Typed::Float32(Sample::new(limit, dimensions, seed)),
            Matrix::Float64(_) => Typed::Float64(Sample::new(limit, dimensions, seed)),
        });
        let added = match (sample, &rows.features) {
            (Typed::Float32(sample), Matrix::Float32(rows)) => sample.add(rows.view()),
            (Typed::Float64(sample), Matrix::Float64(rows)) => sample.add(rows.view()),
            _ => return internal_err!("queries were read as another float type"),
        };
        added.map_err(|error| topk.queries.failed(&error))
    }

    /// `None` where there were none.
    pub(super) fn into_queries(self) -> Option<Matrix<'static>> {
        Some(match self.sample? {
            Typed::Float32(sample) => Matrix::Float32(sample.into_rows().into()),
            Typed::Float64(sample) => Matrix::Float64(sample.into_rows().into()),
        })
    }
}

/// The result.
#[derive(Debug, Default)]
pub(super) struct Measures {
    queries: usize,
    keys: usize,
    k: Option<usize>,
    method: Option<NeighborMethod>,
    measured: usize,
    hits: usize,
    errors: f64,
    largest_error: f64,
    covered: f64,
    least_covered: Option<f64>,
}

impl Measures {
    /// Of so many queries, none of which was measured yet.
    pub(super) fn of_queries(queries: usize) -> Self {
        Self {
            queries,
            ..Self::default()
        }
    }

    /// Compares what queries of the sample find with what there is.
    pub(super) fn compare(
        &mut self,
        keys: &TopKeys,
        method: NeighborMethod,
        queries: &Matrix<'_>,
        control: &dyn Control,
    ) -> Result<()> {
        self.keys = keys.held().len();
        self.k = Some(keys.k());
        self.method = Some(method);
        let nearest = keys.nearest(queries, control)?;
        let attended = keys.attend(&nearest)?;
        let width = keys.width();
        for place in 0..queries.dim().0 {
            let found = &attended.means[place * width..][..width];
            let all = keys.held().all_distances(queries, place)?;
            self.add(keys.missed(&all, &nearest, place, found)?);
            let own = nearest.distances.row(place).to_vec();
            self.hits += hits(&own, all, keys.held().source.metric);
        }
        Ok(())
    }

    fn add(&mut self, missed: Missed) {
        self.measured += 1;
        self.errors += missed.error;
        self.largest_error = self.largest_error.max(missed.error);
        self.covered += missed.covered;
        let least = self.least_covered.unwrap_or(f64::INFINITY);
        self.least_covered = Some(least.min(missed.covered));
    }
}

/// Of the result.
pub(super) fn schema() -> SchemaRef {
    let int = |name, nullable| Field::new(name, DataType::Int64, nullable);
    let float = |name| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        int("queries", false),
        int("keys", false),
        int("k", true),
        Field::new("method", DataType::Utf8, true),
        int("measured_queries", false),
        float("recall"),
        float("mean_error"),
        float("largest_error"),
        float("mean_weight_covered"),
        float("least_weight_covered"),
    ]))
}

/// The measures as a table.
pub(super) fn one_row(measures: &Measures) -> Result<SendableRecordBatchStream> {
    let int = |value: Option<usize>| {
        Arc::new(Int64Array::from(vec![value.map(|v| v as i64)])) as ArrayRef
    };
    let count = measures.measured as f64;
    let float = |value: f64| {
        let value = (measures.measured > 0).then_some(value);
        Arc::new(Float64Array::from(vec![value])) as ArrayRef
    };
    let wanted = count * measures.k.unwrap_or(0) as f64;
    let method = StringArray::from(vec![measures.method.map(NeighborMethod::name)]);
    let row = RecordBatch::try_new(
        schema(),
        vec![
            int(Some(measures.queries)),
            int(Some(measures.keys)),
            int(measures.k),
            Arc::new(method),
            int(Some(measures.measured)),
            float(measures.hits as f64 / wanted),
            float(measures.errors / count),
            float(measures.largest_error),
            float(measures.covered / count),
            float(measures.least_covered.unwrap_or_default()),
        ],
    )?;
    let rows = stream::iter([Ok(row)]);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), rows)))
}
