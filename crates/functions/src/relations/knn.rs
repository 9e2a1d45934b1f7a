//! `knn((SELECT …) or table, id, features, k => 12, metric => 'l2', method => 'auto')`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt, stream};
use lakefold_manifold::Phase;

use super::Signature;
use super::call::{Call, Parameter, written};
use super::indexing::{Building, Queries, SearchMetrics};
use super::nearest::{PartControl, next_part, pairs, reserve_part, schema, slices};
use super::reduction::{Reduction, scan};
use super::search::{Search, known_dimensions};
use super::search_arguments::{
    EF_CONSTRUCTION, EF_SEARCH, M, METHOD, METHOD_ARGUMENTS, SEARCH_ARGUMENTS, SEED,
};
use super::searched_rows::SearchedRows;
use crate::fit_task::{CancelOnDrop, blocking};
use crate::held_rows::Source;
use crate::indexed_rows::HeldRows;
use crate::lle_embed::float_type;
use crate::memory::Budget;
use crate::progress::Announced;
use crate::row_order::By;

const NAME: &str = "knn";
const ID: &str = "id";
const FEATURES: &str = "features";

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::MANIFOLD_LEARNING,
    parameters: &[
        Parameter::table("input"),
        Parameter::column(ID),
        Parameter::column(FEATURES),
        Parameter::value("k"),
        Parameter::value("metric"),
        METHOD,
        EF_SEARCH,
        M,
        EF_CONSTRUCTION,
        SEED,
    ],
    plan,
    description: "The nearest other rows of each row of a table, one row a pair: `id`, `neighbor_id`, `rank` \
        (from 1, the nearest) and `distance` (`DOUBLE`).\n\n\
        By `method => 'exact'` the answer is that of comparing every two rows, to the bit; by `'hnsw'` a few of \
        the nearest may be missed, for the next nearest in their place. Either is the same whatever the threads \
        and the order of `input`. A row is never its own neighbour, but an equal row is one. Of rows as near \
        as one another the one with the smaller id is the nearer (NULL is the largest id). Ids are of any \
        type and may repeat. Rows whose features are NULL are left out, and neighbours of no rows are no rows.\n\n\
        Rows come by id, each row's neighbours by rank. Features and ids are held in memory; the result is \
        computed in parts as it is read, so that LIMIT saves the rest. Exact time grows with the square of the \
        rows, that of a graph little faster than their number.\n\n\
        A stored index of the features (`CREATE INDEX … USING hnsw`) takes the place of a graph that would be \
        built: where `input` is Parquet files, or a query that selects columns of them and nothing else, and \
        `features` a column of `FLOAT` or smaller numbers with an index of that `metric` which is up to date, and \
        of those `m`, `ef_construction` and `seed` that are given. Only ids are read and held then, and the answer \
        is that of a graph with the index's parameters, ties included. EXPLAIN names the index.",
    arguments: &[
        &[
            (
                "input",
                "A query in parentheses, the name of a table, or a path in quotes.",
            ),
            (
                ID,
                "A column of `input`, or an expression over its columns: what rows are called in the result.",
            ),
            (
                FEATURES,
                "The same for the features: a list of numbers, as for `lle_embed`.",
            ),
        ],
        SEARCH_ARGUMENTS,
        METHOD_ARGUMENTS,
    ],
    example: "```sql
SELECT id, neighbor_id, rank, round(distance, 2) AS distance
FROM knn((SELECT * FROM 'sample_data/digits.parquet'), id, pixels, k => 3)
LIMIT 6
```",
};

fn plan(call: &Call) -> Result<LogicalPlan> {
    let search = Search::of(call, NAME)?;
    let (id, features) = (call.column(ID)?, call.column(FEATURES)?);
    let (id_column, column) = (written(&id), written(&features));
    let input = LogicalPlanBuilder::from(call.table("input")?)
        .project([id.alias(ID), features.alias(FEATURES)])?
        .build()?;
    let fields = input.schema().fields();
    let rows = SearchedRows {
        source: Source {
            function: NAME,
            column,
            float: float_type(fields[1].data_type(), NAME)?,
            metric: search.metric,
        },
        dimensions: known_dimensions(fields[1].data_type()),
        search,
        by: By::Id,
        stored: None,
    };
    let knn = Knn {
        id_column,
        schema: schema(fields[0].data_type(), fields[0].data_type()),
        rows,
    };
    scan(NAME, Arc::new(knn), vec![input])
}

#[derive(Debug, Clone)]
struct Knn {
    /// The ids as written.
    id_column: String,
    rows: SearchedRows,
    schema: SchemaRef,
}

impl fmt::Display for Knn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, features) = (&self.id_column, &self.rows.source.column);
        write!(f, "{NAME}({id}, {features}, {})", self.rows.search)
    }
}

#[async_trait]
impl Reduction for Knn {
    fn describe(&self, rows: &[Option<usize>]) -> String {
        let rows = self.rows.count(rows.first().copied().flatten());
        let (id, features, search) = (&self.id_column, &self.rows.source.column, &self.rows.search);
        let method = self.rows.describe(rows, rows);
        format!("{NAME}({id}, {features}, {search}, {method})")
    }

    fn through_indexes(
        &self,
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
    ) -> Result<Option<Arc<dyn Reduction>>> {
        let [input] = inputs else {
            return internal_err!("{NAME} has one input");
        };
        let rows = self.rows.through_index(input, session)?;
        Ok(rows.map(|rows| {
            Arc::new(Self {
                rows,
                ..self.clone()
            }) as _
        }))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn run(
        &self,
        mut inputs: Vec<SendableRecordBatchStream>,
        context: Arc<TaskContext>,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let Some(input) = inputs.pop() else {
            return internal_err!("{NAME} has one input");
        };
        let baseline = BaselineMetrics::new(&metrics, 0);
        let mut as_they_are = |batch: &RecordBatch| Ok(batch.clone());
        let read = self
            .rows
            .read(input, Queries::All, &mut as_they_are, &context, &baseline);
        let schema = self.schema();
        let Some(read) = read.await? else {
            let nothing = stream::empty();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, nothing)));
        };
        let cancelled = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let announced = Arc::new(Announced::new(&context, Phase::Neighbors, read.len()));
        let search = SearchMetrics::new(&metrics, read.method());
        let building = Building {
            cancelled: Arc::clone(&cancelled.0),
            announced: Arc::clone(&announced),
        };
        let timer = baseline.elapsed_compute().timer();
        let held = read.indexed(building, &search).await?;
        drop(timer);
        let parts = Parts {
            cancelled,
            announced,
            search,
            held: Arc::new(held),
            k: self.rows.search.k,
            schema: self.schema(),
            next: 0,
            part: None,
        };
        let compute = baseline.elapsed_compute().clone();
        let batches = stream::try_unfold(parts, move |mut parts| {
            let compute = compute.clone();
            async move {
                let _timer = compute.timer();
                let batch = parts.next().await?;
                Ok::<_, DataFusionError>(batch.map(|batch| (batch, parts)))
            }
        });
        let batch_size = context.session_config().batch_size();
        let batches = batches
            .map_ok(move |batch| stream::iter(slices(&batch, batch_size).map(Ok)))
            .try_flatten()
            .map_ok(move |batch| batch.record_output(&baseline));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// The result, a part at a time.
struct Parts {
    held: Arc<HeldRows>,
    k: usize,
    schema: SchemaRef,
    next: usize,
    /// The memory of the part that is being read.
    part: Option<Budget>,
    announced: Arc<Announced>,
    search: SearchMetrics,
    cancelled: CancelOnDrop,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.part = None;
        let rows = next_part(self.next, self.held.len(), self.k);
        if rows.is_empty() {
            return Ok(None);
        }
        self.next = rows.end;
        let (held, schema, k) = (Arc::clone(&self.held), Arc::clone(&self.schema), self.k);
        let searched = rows.len();
        let control = PartControl {
            budget: held.budget.sibling(),
            cancelled: Arc::clone(&self.cancelled.0),
            announced: Arc::clone(&self.announced),
        };
        let search = self.search.clone();
        let (batch, part) = blocking(move || {
            let part = reserve_part(&held, rows.len(), k)?;
            let nearest = held.nearest_others(rows.clone(), k, &control)?;
            let all = |place| held.other_distances(rows.start + place);
            search.answered(rows.start, &nearest, all, &held)?;
            let ids = held.ids.slice(rows.start, rows.len());
            Ok((pairs(&schema, &ids, nearest, &held)?, part))
        })
        .await?;
        self.announced.add(searched);
        self.part = Some(part);
        Ok(Some(batch))
    }
}
