//! `knn((SELECT …) or table, id, features, k => 12, metric => 'l2', method => 'auto')`.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;

use super::Signature;
use super::call::{Call, Parameter, written};
use super::indexing::Queries;
use super::nearest::{pairs, reserve_part, schema};
use super::parts::{Parts, Running, next_part, stream_of};
use super::reduction::{Reduction, scan};
use super::search::{Search, known_dimensions};
use super::search_arguments::{
    EF_CONSTRUCTION, EF_SEARCH, M, METHOD, METHOD_ARGUMENTS, SEARCH_ARGUMENTS, SEED,
};
use super::search_metrics::SearchMetrics;
use super::searched_rows::SearchedRows;
use crate::fit_task::blocking;
use crate::held_rows::Source;
use crate::indexed_rows::HeldRows;
use crate::lle_embed::float_type;
use crate::memory::Budget;
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
        let running = Running::new(&context, read.len());
        let (held, search) = read.indexed(&running, &metrics, &baseline).await?;
        let parts = OwnPairs {
            held: Arc::new(held),
            k: self.rows.search.k,
            schema: Arc::clone(&schema),
            next: 0,
            part: None,
            search,
            baseline: baseline.clone(),
            running,
        };
        Ok(stream_of(parts, schema, &context, baseline))
    }
}

/// The result, a part at a time.
struct OwnPairs {
    held: Arc<HeldRows>,
    k: usize,
    schema: SchemaRef,
    next: usize,
    /// The memory of the part that is being read.
    part: Option<Budget>,
    search: SearchMetrics,
    baseline: BaselineMetrics,
    running: Running,
}

#[async_trait]
impl Parts for OwnPairs {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.part = None;
        let _timer = self.baseline.elapsed_compute().timer();
        let rows = next_part(self.next, self.held.len(), self.k);
        self.next = rows.end;
        let (held, schema, k) = (Arc::clone(&self.held), Arc::clone(&self.schema), self.k);
        let (search, control) = (self.search.clone(), self.running.part(&held.budget));
        if rows.is_empty() {
            if search.is_unfinished() {
                blocking(move || search.finish(&held, &control)).await?;
            }
            return Ok(None);
        }
        let searched = rows.len();
        let (batch, memory) = blocking(move || {
            let memory = reserve_part(&held, rows.len(), k)?;
            let nearest = held.nearest_others(rows.clone(), k, &control)?;
            search.answered(rows.start, None, &nearest, &held, &control)?;
            let ids = held.ids.slice(rows.start, rows.len());
            Ok((pairs(&schema, &ids, nearest, &held)?, memory))
        })
        .await?;
        self.running.answered(searched);
        self.part = Some(memory);
        Ok(Some(batch))
    }
}
