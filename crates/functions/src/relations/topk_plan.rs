//! What `attention_topk` and `attention_topk_error` are asked for, and the keys that they hold.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::{is_null, nullif};
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::Session;
use datafusion::common::{Result, exec_err, internal_err, plan_datafusion_err, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::BaselineMetrics;
use lakefold_attention::Similarity;
use lakefold_manifold::{Metric, check_features};

use super::call::{Call, written};
use super::indexing::Queries;
use super::look_ahead::LookAhead;
use super::search::{Search, known_dimensions};
use super::searched_rows::{ReadRows, SearchedRows};
use crate::attention::{Scoring, nested, vector_float, wider};
use crate::features::{Matrix, Site, check_dimensions, extract, input_row, measure};
use crate::fit::row_error;
use crate::held_rows::{Rows, Source};
use crate::row_order::By;

/// Keys of a query unless told otherwise.
const DEFAULT_K: u64 = 64;

/// As asked for.
#[derive(Debug, Clone)]
pub(super) struct TopK {
    pub(super) scoring: Scoring,
    pub(super) queries: Source,
    /// With their values in the place of ids.
    pub(super) keys: SearchedRows,
    /// The values as written.
    pub(super) value: String,
    /// Lists of the float type that all three are read as.
    pub(super) value_type: DataType,
}

impl TopK {
    /// Reads the arguments; the inputs are (id, query) and (value, key).
    pub(super) fn plan(call: &Call, function: &'static str) -> Result<(Self, Vec<LogicalPlan>)> {
        let (id, query) = (call.column("query_id")?, call.column("query")?);
        let (key, value) = (call.column("key")?, call.column("value")?);
        let names = [&query, &key, &value].map(written);
        let queries = LogicalPlanBuilder::from(call.table("queries")?)
            .project([id.alias("id"), query.alias("query")])?
            .build()?;
        let keys = LogicalPlanBuilder::from(call.table("keys")?)
            .project([value.clone().alias("value"), key.clone().alias("key")])?
            .build()?;
        let types = [
            queries.schema().field(1).data_type(),
            keys.schema().field(1).data_type(),
            keys.schema().field(0).data_type(),
        ];
        let floats = ["query", "key", "value"].into_iter().zip(types);
        let floats = floats
            .map(|(name, data_type)| vector_float(function, name, data_type))
            .collect::<Result<Vec<_>>>()?;
        let dimensions = [types[0], types[1]].map(known_dimensions);
        if let [Some(m), Some(n)] = dimensions
            && m != n
        {
            return plan_err!(
                "query of {function}, {}, has {m} dimensions and key, {}, has {n}: both need the same number",
                names[0],
                names[1]
            );
        }
        let float = wider(&floats);
        let value_type = nested(types[2], 1, float.data_type());
        let value = cast(value, value_type.clone());
        let keys = LogicalPlanBuilder::from(call.table("keys")?)
            .project([value.alias("value"), key.alias("key")])?
            .build()?;
        let scoring = Scoring::of_constants(
            function,
            Some(&call.value("scale")),
            Some(&call.value("similarity")),
        )?;
        if scoring.scale.is_some_and(|scale| scale <= 0.0) {
            return plan_err!(
                "scale of {function} must be above 0, got {}: below it the best keys would weigh least",
                scoring.scale.unwrap_or_default()
            );
        }
        let metric = match scoring.similarity {
            Similarity::Dot => Metric::InnerProduct,
            Similarity::Cosine => Metric::Cosine,
            Similarity::L2 => Metric::L2,
        };
        let k = call.whole_number("k", 1)?.unwrap_or(DEFAULT_K) as usize;
        let source = |column: &str| Source {
            function,
            column: column.to_owned(),
            float,
            metric,
        };
        let topk = Self {
            scoring,
            queries: source(&names[0]),
            keys: SearchedRows {
                source: source(&names[1]),
                dimensions: dimensions[1].or(dimensions[0]),
                search: Search::with(call, function, k, metric)?,
                by: By::Features,
                stored: None,
            },
            value: names[2].clone(),
            value_type,
        };
        topk.scoring
            .scale_for(1)
            .map_err(|error| plan_datafusion_err!("{function}: {error}"))?;
        Ok((topk, vec![queries, keys]))
    }

    /// Numbers of a value, where its type tells.
    pub(super) fn fixed_width(&self) -> Option<usize> {
        known_dimensions(&self.value_type)
    }

    /// The same through a stored index of the keys, where one fits of what the inputs give.
    pub(super) fn through_index(
        &self,
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
    ) -> Result<Option<Self>> {
        let [_, keys] = inputs else {
            return internal_err!("{} has two inputs", self.queries.function);
        };
        let keys = self.keys.through_index(keys, session)?;
        Ok(keys.map(|keys| Self {
            keys,
            ..self.clone()
        }))
    }

    /// Reads a stream of (value, key), for queries that are counted ahead; `None` where there are no keys.
    pub(super) async fn read(
        &self,
        keys: SendableRecordBatchStream,
        queries: &mut LookAhead,
        context: &Arc<TaskContext>,
        baseline: &BaselineMetrics,
    ) -> Result<Option<ReadRows>> {
        let mut width = None;
        let mut with_values = |batch: &RecordBatch| self.with_values(batch, &mut width);
        let queries = Queries::Ahead(queries);
        let keys = self
            .keys
            .read(keys, queries, &mut with_values, context, baseline);
        keys.await
    }

    /// # Errors
    /// Where queries are not as long as keys.
    pub(super) fn check_comparable(
        &self,
        rows: &Rows<'_>,
        need: usize,
        batch: &RecordBatch,
    ) -> Result<()> {
        let have = rows.features.dim().1;
        if have == need {
            return Ok(());
        }
        let (queries, keys) = (&self.queries, &self.keys.source);
        let row = queries.site(batch).row(input_row(&rows.present, 0)?);
        exec_err!(
            "query of {}, {}, has {have} dimensions ({row}) and key, {}, has {need}: both need the same number",
            queries.function,
            queries.column,
            keys.column
        )
    }

    /// A batch of values, and of keys unless those are in an index, without the keys of rows that have no value.
    ///
    /// # Errors
    /// Names the column and the row of a value that is no vector of as many finite numbers as the others.
    fn with_values(&self, batch: &RecordBatch, width: &mut Option<usize>) -> Result<RecordBatch> {
        let site = Site {
            column: self.value.clone(),
            ..self.keys.source.site(batch)
        };
        let values = std::slice::from_ref(batch.column(0));
        let extent = measure(values, &site)?;
        check_dimensions(width, &extent, &site)?;
        if extent.rows > 0 {
            let values = extract(values, extent, self.keys.source.float)?;
            match &values.matrix {
                Matrix::Float32(rows) => check_features(rows.view()),
                Matrix::Float64(rows) => check_features(rows.view()),
            }
            .map_err(|error| row_error(&error, &site, &values.present))?;
        }
        let missing: BooleanArray = is_null(batch.column(0))?;
        let [_, keys] = batch.columns() else {
            return Ok(batch.clone());
        };
        if missing.true_count() == 0 {
            return Ok(batch.clone());
        }
        let keys = nullif(keys, &missing)?;
        let columns = vec![Arc::clone(batch.column(0)), keys];
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }
}

/// For plans.
pub(super) fn described(function: &str, topk: &TopK, rows: &[Option<usize>]) -> String {
    let [queries, keys] = [0, 1].map(|input| rows.get(input).copied().flatten());
    let method = topk.keys.describe(topk.keys.count(keys), queries);
    format!("{function}({topk}, {method})")
}

impl fmt::Display for TopK {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (query, key) = (&self.queries.column, &self.keys.source.column);
        let (value, k) = (&self.value, self.keys.search.k);
        write!(f, "{query}, {key}, {value}, k={k}, {}", self.scoring)
    }
}
