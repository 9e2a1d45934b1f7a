//! `attention_topk(queries, query_id, query, keys, key, value, k => 64, …)`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt, stream};
use lakefold_manifold::{NeighborMethod, Phase};

use super::Signature;
use super::call::{Call, Parameter};
use super::indexing::{Building, SearchMetrics};
use super::look_ahead::LookAhead;
use super::nearest::{PartControl, next_part, slices};
use super::reduction::{Reduction, scan};
use super::search_arguments::{EF_CONSTRUCTION, EF_SEARCH, M, METHOD, METHOD_ARGUMENTS, SEED};
use super::searched_rows::ReadRows;
use super::topk_error::ErrorMetrics;
use super::topk_keys::{Attended, TopKeys};
use super::topk_plan::{TopK, described};
use crate::embeddings::embedding_array;
use crate::evaluator::off_the_async_threads;
use crate::fit_task::{CancelOnDrop, blocking};
use crate::memory::Budget;
use crate::progress::Announced;

pub(super) const NAME: &str = "attention_topk";

/// The tables and the columns, of both functions.
pub(super) const ROWS_ARGUMENTS: &[(&str, &str)] = &[
    (
        "queries",
        "The rows that attend: a query in parentheses, the name of a table, or a path in quotes.",
    ),
    (
        "query_id",
        "A column of `queries`, or an expression over its columns: what its rows are called in the result.",
    ),
    ("query", "The same for the queries: a list of numbers."),
    (
        "keys",
        "The rows that are attended to. They are held in memory.",
    ),
    (
        "key",
        "Their keys, lists of as many numbers as a query. Rows whose key or value is NULL are not seen.",
    ),
    (
        "value",
        "Their values: lists of any length that is the same in all rows.",
    ),
];

/// What is attended to, of both functions.
pub(super) const ATTENTION_ARGUMENTS: &[(&str, &str)] = &[
    (
        "k",
        "Keys that a query attends to; all of them where there are fewer. 64 when omitted.",
    ),
    (
        "scale",
        "A number above 0 that similarities are multiplied with. When omitted as for `attention`: 1/√d for \
         `dot` with d the numbers of a query, 1 for `cosine`, 1/(2√d) for `l2`.",
    ),
    (
        "similarity",
        "`dot`, `cosine` or `l2`, as for `attention`: the best keys are those of the largest products, the \
         smallest angles or the smallest distances. `dot` when omitted.",
    ),
];

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
    ],
    plan,
    description: "The attention of every query over its `k` best keys: the softmax-weighted mean of their values, \
        for queries against so many keys that attending to all of them takes too long. One row a query, in \
        the order of `queries`: `id`, `attention` (a list like `value`) and `least_weight`, the weight of the \
        last of its keys. No key that was left out by an exact search would weigh more than that, so a small \
        `least_weight` says that `k` is large enough.\n\n\
        What is left out is measured: every 64th query, up to 100 of them, also attends to all keys, and \
        EXPLAIN ANALYZE shows the difference; `attention_topk_error`, with the same arguments, returns it. \
        Scores and sums are taken in `DOUBLE`. A query that is NULL gets NULL, and so does every query where \
        there are no keys. NaN and infinity are errors that name the row.\n\n\
        The same queries and keys give the same result, whatever the threads and the order of `keys`. A stored \
        index of the keys, of the metric `inner_product`, `cosine` or `l2` as `similarity` has it, is searched as \
        by `knn`, if queries, keys and values are `FLOAT` or smaller and every key has a value.",
    arguments: &[ROWS_ARGUMENTS, ATTENTION_ARGUMENTS, METHOD_ARGUMENTS],
    example: "What the digits nearest in kind to each new one look like, on average:

```sql
SELECT id, array_length(attention) AS width, round(least_weight, 3) AS least_weight
FROM attention_topk(
    (SELECT * FROM 'sample_data/digits.parquet' WHERE id >= 1700), id, pixels,
    (SELECT * FROM 'sample_data/digits.parquet' WHERE id < 1700), pixels, pixels,
    k => 20, similarity => 'l2', scale => 0.01)
LIMIT 3
```",
};

fn plan(call: &Call) -> Result<LogicalPlan> {
    let (topk, inputs) = TopK::plan(call, NAME)?;
    let schema = Schema::new(vec![
        Field::new("id", inputs[0].schema().field(0).data_type().clone(), true),
        Field::new("attention", topk.value_type.clone(), true),
        Field::new("least_weight", DataType::Float64, true),
    ]);
    let attention = AttentionTopK {
        topk,
        schema: Arc::new(schema),
    };
    scan(NAME, Arc::new(attention), inputs)
}

#[derive(Debug, Clone)]
struct AttentionTopK {
    topk: TopK,
    schema: SchemaRef,
}

impl fmt::Display for AttentionTopK {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}({})", self.topk)
    }
}

#[async_trait]
impl Reduction for AttentionTopK {
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
        Arc::clone(&self.schema)
    }

    fn any_order(&self) -> bool {
        false
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
        let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let announced = Arc::new(Announced::new(&context, Phase::Neighbors, 0));
        let method = read.as_ref().map(ReadRows::method);
        let search = SearchMetrics::new(&metrics, method.unwrap_or(NeighborMethod::Exact));
        let mut top_keys = None;
        if let Some(read) = read {
            let building = Building {
                cancelled: Arc::clone(&cancelled.0),
                announced: Arc::clone(&announced),
            };
            let _timer = baseline.elapsed_compute().timer();
            let held = read.indexed(building, &search).await?;
            top_keys = Some(Arc::new(TopKeys::new(held, &self.topk)?));
        }
        let answers = Answers {
            topk: self.topk.clone(),
            queries,
            dimensions: None,
            batch: None,
            top_keys,
            answered: 0,
            schema: self.schema(),
            baseline: baseline.clone(),
            search,
            errors: ErrorMetrics::new(&metrics),
            budget,
            part: None,
            announced,
            cancelled,
        };
        let batches = stream::try_unfold(answers, async |mut answers| {
            let batch = answers.next().await?;
            Ok::<_, DataFusionError>(batch.map(|batch| (batch, answers)))
        });
        let batch_size = context.session_config().batch_size();
        let batches = batches
            .map_ok(move |batch| stream::iter(slices(&batch, batch_size).map(Ok)))
            .try_flatten()
            .map_ok(move |batch| batch.record_output(&baseline));
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            batches,
        )))
    }
}

/// The result, a part of a batch of queries at a time.
struct Answers {
    topk: TopK,
    queries: LookAhead,
    /// Of the queries so far.
    dimensions: Option<usize>,
    /// Queries, of which those from this row on are still to be answered.
    batch: Option<(RecordBatch, usize)>,
    /// `None` where there are no keys.
    top_keys: Option<Arc<TopKeys>>,
    /// Queries so far, those that are NULL left out.
    answered: usize,
    schema: SchemaRef,
    baseline: BaselineMetrics,
    search: SearchMetrics,
    errors: ErrorMetrics,
    budget: Budget,
    /// The memory of the part that is being read.
    part: Option<Budget>,
    announced: Arc<Announced>,
    cancelled: CancelOnDrop,
}

impl Answers {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.part = None;
        loop {
            if let Some((batch, next)) = &mut self.batch {
                let part = next_part(*next, batch.num_rows(), self.topk.keys.search.k);
                if !part.is_empty() {
                    *next = part.end;
                    let queries = batch.slice(part.start, part.len());
                    return self.answer(queries).await.map(Some);
                }
                self.batch = None;
            }
            match self.queries.next().await? {
                Some(batch) => self.batch = Some((batch, 0)),
                None => return Ok(None),
            }
        }
    }

    async fn answer(&mut self, queries: RecordBatch) -> Result<RecordBatch> {
        let _timer = self.baseline.elapsed_compute().timer();
        let source = &self.topk.queries;
        let read = off_the_async_threads(|| source.read(&queries, &mut self.dimensions))?;
        let ids = Arc::clone(queries.column(0));
        let (Some(rows), Some(top_keys)) = (read, &self.top_keys) else {
            let present = BooleanBuffer::new_unset(queries.num_rows());
            return self.batch(ids, Attended::default(), 0, present);
        };
        let need = top_keys.held().dimensions();
        self.topk.check_comparable(&rows, need, &queries)?;
        let control = PartControl {
            budget: self.budget.sibling(),
            cancelled: Arc::clone(&self.cancelled.0),
            announced: Arc::clone(&self.announced),
        };
        let (features, present) = (rows.features.into_owned(), rows.present);
        let first = self.answered;
        let count = features.dim().0;
        self.answered += count;
        let (search, errors) = (self.search.clone(), self.errors.clone());
        let keys = Arc::clone(top_keys);
        let (attended, part) = blocking(move || {
            let memory = keys.reserve_part(features.dim().0)?;
            let nearest = keys.nearest(&features, &control)?;
            search.answered_from(
                first,
                &nearest,
                (&features, 0..features.dim().0),
                keys.held(),
            )?;
            let attended = keys.attend(&nearest)?;
            errors.measure(first, &keys, (&features, &nearest), &attended)?;
            Ok((attended, memory))
        })
        .await?;
        self.announced.add(count);
        self.part = Some(part);
        let width = top_keys.width();
        self.batch(ids, attended, width, present)
    }

    /// One row a query, NULL where it is not `present`.
    fn batch(
        &self,
        ids: ArrayRef,
        attended: Attended,
        width: usize,
        present: BooleanBuffer,
    ) -> Result<RecordBatch> {
        let mut least = attended.least_weights.into_iter();
        let least: Vec<f64> = present
            .iter()
            .map(|present| if present { least.next() } else { None }.unwrap_or_default())
            .collect();
        let nulls = NullBuffer::new(present.clone());
        let means = embedding_array(
            &self.topk.value_type,
            self.topk.queries.float,
            attended.means.into_iter(),
            self.topk.fixed_width().unwrap_or(width),
            present,
        )?;
        let columns = vec![
            ids,
            means,
            Arc::new(Float64Array::new(least.into(), Some(nulls))) as ArrayRef,
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
