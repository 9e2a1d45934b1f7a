//! `knn_join(left, left_id, left_features, right, right_id, right_features, k => 12, …)`.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use lakefold_manifold::NeighborMethod;

use super::Signature;
use super::call::{Call, Parameter, written};
use super::indexing::Queries;
use super::joined_pairs::{Pairs, Right};
use super::look_ahead::{BATCH_ROWS, LookAhead};
use super::nearest::schema;
use super::parts::{QueryParts, Running, stream_of};
use super::reduction::{Reduction, scan};
use super::search::{Search, known_dimensions};
use super::search_arguments::{
    EF_CONSTRUCTION, EF_SEARCH, M, METHOD, METHOD_ARGUMENTS, SEARCH_ARGUMENTS, SEED,
};
use super::search_metrics::SearchMetrics;
use super::searched_rows::SearchedRows;
use crate::float_lists::FloatType;
use crate::held_rows::Source;
use crate::memory::Budget;
use crate::row_order::By;

const NAME: &str = "knn_join";

pub(crate) const SIGNATURE: Signature = Signature {
    name: NAME,
    section: super::documentation::MANIFOLD_LEARNING,
    parameters: &[
        Parameter::table("left"),
        Parameter::column("left_id"),
        Parameter::column("left_features"),
        Parameter::table("right"),
        Parameter::column("right_id"),
        Parameter::column("right_features"),
        Parameter::value("k"),
        Parameter::value("metric"),
        METHOD,
        EF_SEARCH,
        M,
        EF_CONSTRUCTION,
        SEED,
    ],
    plan,
    description: "The nearest rows of one table for each row of another, one row a pair: `id` of the left row, \
        `neighbor_id` of the right one, `rank` (from 1, the nearest) and `distance` (`DOUBLE`).\n\n\
        The search is exact or goes through a graph of the right rows, as that of `knn`, and of right rows as \
        near as one another the one with the smaller id is the nearer (NULL is the largest id). Nothing is left \
        out for being equal: a row that is in both tables may be its own neighbour here. Ids are of any type, may \
        be NULL and may repeat. Rows whose features are NULL are left out, on either side. If one side's numbers \
        are `FLOAT` and the other's `DOUBLE`, both are read as `DOUBLE`.\n\n\
        Rows come in the order of `left`, each row's neighbours by rank. Features and ids of `right` are held \
        in memory, `left` streams by at any size: name the smaller table second. Where `method => 'auto'` may \
        choose a graph, as many left rows as it would pay for are held until they are counted.\n\n\
        A stored index of the right features is searched as by `knn`: of `right` only ids are read and held then. \
        It needs numbers of `FLOAT` or smaller on both sides; `arrow_cast(left_features, 'List(Float32)')` makes \
        such of a `DOUBLE` column.",
    arguments: &[
        &[
            (
                "left",
                "The rows to find neighbours of: a query in parentheses, the name of a table, or a path in \
                 quotes.",
            ),
            (
                "left_id",
                "A column of `left`, or an expression over its columns: what its rows are called in the \
                 result.",
            ),
            (
                "left_features",
                "The same for the features: a list of numbers, as for `lle_embed`.",
            ),
            ("right", "The rows to find neighbours among."),
            ("right_id", "What those are called in the result."),
            (
                "right_features",
                "Their features, of as many dimensions as `left_features`.",
            ),
        ],
        SEARCH_ARGUMENTS,
        METHOD_ARGUMENTS,
    ],
    example: "The known digits nearest to each new one:

```sql
SELECT id, neighbor_id, rank
FROM knn_join(
    (SELECT * FROM 'sample_data/digits.parquet' WHERE id >= 1700), id, pixels,
    (SELECT * FROM 'sample_data/digits.parquet' WHERE id < 1700), id, pixels,
    k => 5, metric => 'cosine')
LIMIT 5
```",
};

fn plan(call: &Call) -> Result<LogicalPlan> {
    let search = Search::of(call, NAME)?;
    let side = |table, id, features| {
        let column = call.column(features)?;
        let name = written(&column);
        let input = LogicalPlanBuilder::from(call.table(table)?)
            .project([call.column(id)?.alias("id"), column.alias("features")])?
            .build()?;
        let data_type = input.schema().field(1).data_type().clone();
        let Some(float) = FloatType::of_list(&data_type) else {
            return plan_err!(
                "{features} of {NAME} must be a list of numbers, got {data_type}: name a column of lists, or \
                 write make_array(a, b, …) to make one of scalar columns"
            );
        };
        Ok((input, name, data_type, float))
    };
    let (left, left_column, left_type, left_float) = side("left", "left_id", "left_features")?;
    let (right, right_column, right_type, right_float) =
        side("right", "right_id", "right_features")?;
    if let (DataType::FixedSizeList(_, m), DataType::FixedSizeList(_, n)) =
        (&left_type, &right_type)
        && m != n
    {
        return plan_err!(
            "left_features of {NAME}, {left_column}, has {m} dimensions and right_features, {right_column}, \
             has {n}: both need the same number"
        );
    }
    let double = [left_float, right_float].contains(&FloatType::Float64);
    let metric = search.metric;
    let source = |column| Source {
        function: NAME,
        column,
        float: if double {
            FloatType::Float64
        } else {
            FloatType::Float32
        },
        metric,
    };
    let join = KnnJoin {
        left: source(left_column),
        right: SearchedRows {
            source: source(right_column),
            dimensions: known_dimensions(&right_type),
            search,
            by: By::Id,
            stored: None,
        },
        schema: schema(
            left.schema().field(0).data_type(),
            right.schema().field(0).data_type(),
        ),
    };
    scan(NAME, Arc::new(join), vec![left, right])
}

#[derive(Debug, Clone)]
struct KnnJoin {
    left: Source,
    right: SearchedRows,
    schema: SchemaRef,
}

impl fmt::Display for KnnJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = (&self.left.column, &self.right.source.column);
        write!(f, "{NAME}({left}, {right}, {})", self.right.search)
    }
}

#[async_trait]
impl Reduction for KnnJoin {
    fn describe(&self, rows: &[Option<usize>]) -> String {
        let [queries, rows] = [0, 1].map(|input| rows.get(input).copied().flatten());
        let (left, right) = (&self.left.column, &self.right.source.column);
        let method = self.right.describe(self.right.count(rows), queries);
        format!("{NAME}({left}, {right}, {}, {method})", self.right.search)
    }

    fn through_indexes(
        &self,
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
    ) -> Result<Option<Arc<dyn Reduction>>> {
        let [_, right] = inputs else {
            return internal_err!("{NAME} has two inputs");
        };
        let right = self.right.through_index(right, session)?;
        Ok(right.map(|right| {
            Arc::new(Self {
                right,
                ..self.clone()
            }) as _
        }))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn batch_rows(&self, input: usize) -> usize {
        if input == 0 { BATCH_ROWS } else { usize::MAX }
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
        let Ok([left, right]) = <[_; 2]>::try_from(inputs) else {
            return internal_err!("{NAME} has two inputs");
        };
        let baseline = BaselineMetrics::new(&metrics, 0);
        let budget = Budget::new(context.memory_pool(), NAME);
        let mut left = LookAhead::new(left, budget.sibling());
        let queries = Queries::Ahead(&mut left);
        let mut as_they_are = |batch: &RecordBatch| Ok(batch.clone());
        let read = self
            .right
            .read(right, queries, &mut as_they_are, &context, &baseline);
        let read = read.await?;
        let running = Running::new(&context, 0);
        let (held, search) = match read {
            None => (None, SearchMetrics::new(&metrics, NeighborMethod::Exact)),
            Some(read) => {
                let (held, search) = read.indexed(&running, &metrics, &baseline).await?;
                (Some(held), search)
            }
        };
        let k = self.right.search.k;
        let right = Right {
            source: self.left.clone(),
            column: self.right.source.column.clone(),
            held,
            k,
            schema: self.schema(),
        };
        let pairs = Pairs {
            left: QueryParts::new(left, k),
            right: Arc::new(right),
            search,
            answered: 0,
            dimensions: None,
            baseline: baseline.clone(),
            budget,
            part: None,
            running,
        };
        Ok(stream_of(pairs, self.schema(), &context, baseline))
    }
}
