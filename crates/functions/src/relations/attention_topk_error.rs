//! `attention_topk_error(queries, query_id, query, keys, key, value, …)`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use lakefold_manifold::{NeighborMethod, Phase, Sample, hits};

use super::Signature;
use super::attention_topk::{ATTENTION_ARGUMENTS, ROWS_ARGUMENTS};
use super::call::{Call, Parameter};
use super::indexing::{Building, SearchMetrics};
use super::look_ahead::LookAhead;
use super::nearest::PartControl;
use super::reduction::{Reduction, scan};
use super::search_arguments::{EF_CONSTRUCTION, EF_SEARCH, M, METHOD, METHOD_ARGUMENTS, SEED};
use super::searched_rows::ReadRows;
use super::topk_keys::{Missed, TopKeys};
use super::topk_plan::{TopK, described};
use crate::evaluator::off_the_async_threads;
use crate::features::Matrix;
use crate::fit_task::{CancelOnDrop, blocking};
use crate::memory::Budget;
use crate::progress::Announced;

const NAME: &str = "attention_topk_error";

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::ATTENTION,
    parameters: &[
        Parameter::table("queries"),
        Parameter::column("query_id"),
        Parameter::column("query"),
        Parameter::table("keys"),
        Parameter::column("key"),
        Parameter::column("value"),
        Parameter::value("k"),
        Parameter::value("scale"),
        Parameter::value("similarity"),
        METHOD,
        EF_SEARCH,
        M,
        EF_CONSTRUCTION,
        SEED,
        Parameter::value("sample_size"),
    ],
    plan,
    description: "What `attention_topk` with the same arguments misses: a sample of its queries also attends to all \
        keys. One row:\n\n\
        - `queries`, `keys`, `k`, `method`: the queries that are not NULL, the keys that are seen, the keys that \
        each query attends to, and how they are found, `exact` or `hnsw`.\n\
        - `measured_queries`: distinct queries of the sample.\n\
        - `recall`: the share of the `k` best keys that was found.\n\
        - `mean_error`, `largest_error`: the length of the difference between the two results, divided by \
        that of attention over all keys.\n\
        - `mean_weight_covered`, `least_weight_covered`: the share that the keys that were found have of the \
        weight of all keys.\n\n\
        The sample are the distinct queries with the smallest hashes under `seed`, whatever their order. All \
        measures are NULL where there is nothing to measure.",
    arguments: &[
        ROWS_ARGUMENTS,
        ATTENTION_ARGUMENTS,
        METHOD_ARGUMENTS,
        &[(
            "sample_size",
            "Queries that are measured. 100 when omitted.",
        )],
    ],
    example: "```sql
SELECT k, recall, mean_error < 0.05 AS near, mean_weight_covered > 0.95 AS covered
FROM attention_topk_error(
    (SELECT * FROM 'sample_data/digits.parquet' WHERE id >= 1700), id, pixels,
    (SELECT * FROM 'sample_data/digits.parquet' WHERE id < 1700), pixels, pixels,
    k => 200, similarity => 'l2', scale => 0.01)
```",
};

fn plan(call: &Call) -> Result<LogicalPlan> {
    let (topk, inputs) = TopK::plan(call, NAME)?;
    let sample_size = call.whole_number("sample_size", 1)?.unwrap_or(100) as usize;
    let seed = call.whole_number("seed", 0)?.unwrap_or(0);
    let reduction = TopKError {
        topk,
        sample_size,
        seed,
    };
    scan(NAME, Arc::new(reduction), inputs)
}

#[derive(Debug, Clone)]
struct TopKError {
    topk: TopK,
    sample_size: usize,
    seed: u64,
}

impl fmt::Display for TopKError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}({})", self.topk)
    }
}

#[async_trait]
impl Reduction for TopKError {
    fn describe(&self, rows: &[Option<usize>]) -> String {
        described(NAME, &self.topk, rows)
    }

    fn through_indexes(
        &self,
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
    ) -> Result<Option<Arc<dyn Reduction>>> {
        let topk = self.topk.through_index(inputs, session)?;
        Ok(topk.map(|topk| {
            Arc::new(Self {
                topk,
                ..self.clone()
            }) as _
        }))
    }

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn run(
        &self,
        inputs: Vec<SendableRecordBatchStream>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let Ok([queries, keys]) = <[_; 2]>::try_from(inputs) else {
            return internal_err!("{NAME} has two inputs");
        };
        let baseline = BaselineMetrics::new(&metrics, 0);
        let budget = Budget::new(context.memory_pool(), NAME);
        let mut queries = LookAhead::new(queries, budget.sibling());
        let read = self.topk.read(keys, &mut queries, &context, &baseline);
        let read = read.await?;
        let need = read.as_ref().map(ReadRows::dimensions);
        let mut sample = QuerySample {
            limit: self.sample_size,
            seed: self.seed,
            dimensions: None,
            present: 0,
            sample: None,
        };
        while let Some(batch) = queries.next().await? {
            let _timer = baseline.elapsed_compute().timer();
            off_the_async_threads(|| sample.add(&batch, &self.topk, need, &budget))?;
        }
        let present = sample.present;
        let (Some(read), Some(queries)) = (read, sample.into_queries()) else {
            return one_row(&Measures {
                queries: present,
                ..Measures::default()
            });
        };
        let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let announced = Arc::new(Announced::new(&context, Phase::Neighbors, 0));
        let method = read.method();
        let search = SearchMetrics::new(&metrics, method);
        let building = Building {
            cancelled: Arc::clone(&cancelled.0),
            announced: Arc::clone(&announced),
        };
        let _timer = baseline.elapsed_compute().timer();
        let held = read.indexed(building, &search).await?;
        let keys = TopKeys::new(held, &self.topk)?;
        let control = PartControl {
            budget: budget.sibling(),
            cancelled: Arc::clone(&cancelled.0),
            announced,
        };
        let measures = blocking(move || {
            let _memory = keys.reserve_part(queries.dim().0)?;
            let nearest = keys.nearest(&queries, &control)?;
            let attended = keys.attend(&nearest)?;
            let width = keys.width();
            let mut measures = Measures {
                queries: present,
                keys: keys.held().len(),
                k: Some(keys.k()),
                method: Some(method),
                ..Measures::default()
            };
            for place in 0..queries.dim().0 {
                let found = &attended.means[place * width..][..width];
                measures.add(keys.missed((&queries, &nearest), place, found)?);
                let own = nearest.distances.row(place).to_vec();
                let all = keys.held().all_distances(&queries, place)?;
                measures.hits += hits(&own, all, keys.held().source.metric);
            }
            Ok(measures)
        })
        .await?;
        one_row(&measures)
    }
}

/// The queries to be measured.
struct QuerySample {
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
    fn add(
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

    fn into_queries(self) -> Option<Matrix<'static>> {
        Some(match self.sample? {
            Typed::Float32(sample) => Matrix::Float32(sample.into_rows().into()),
            Typed::Float64(sample) => Matrix::Float64(sample.into_rows().into()),
        })
    }
}

/// The result.
#[derive(Debug, Default)]
struct Measures {
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
    fn add(&mut self, missed: Missed) {
        self.measured += 1;
        self.errors += missed.error;
        self.largest_error = self.largest_error.max(missed.error);
        self.covered += missed.covered;
        let least = self.least_covered.unwrap_or(f64::INFINITY);
        self.least_covered = Some(least.min(missed.covered));
    }
}

fn schema() -> SchemaRef {
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

fn one_row(measures: &Measures) -> Result<SendableRecordBatchStream> {
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
