//! What `attention_topk` and `attention_topk_error` are asked for, and the keys that they hold.

use std::fmt;

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::{is_null, nullif};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_datafusion_err, plan_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use lakefold_attention::Similarity;
use lakefold_manifold::{Metric, check_features};

use super::call::{Call, written};
use super::search::{Search, known_dimensions};
use crate::attention::{Scoring, nested, vector_float, wider};
use crate::evaluator::off_the_async_threads;
use crate::features::{Matrix, Site, check_dimensions, extract, input_row, measure};
use crate::fit::row_error;
use crate::held_rows::{Collector, Rows, Source};
use crate::indexed_rows::SortedRows;
use crate::memory::Budget;

/// Keys of a query unless told otherwise.
const DEFAULT_K: u64 = 64;

/// As asked for.
#[derive(Debug, Clone)]
pub(super) struct TopK {
    pub(super) search: Search,
    pub(super) scoring: Scoring,
    pub(super) queries: Source,
    pub(super) keys: Source,
    /// The values as written.
    pub(super) value: String,
    /// Lists of the float type that all three are read as.
    pub(super) value_type: DataType,
    /// Of queries and keys, where their types tell.
    dimensions: Option<usize>,
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
            search: Search::with(call, function, k, metric)?,
            scoring,
            queries: source(&names[0]),
            keys: source(&names[1]),
            value: names[2].clone(),
            value_type,
            dimensions: dimensions[1].or(dimensions[0]),
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

    /// The keys of a stream of (value, key), with their values; `None` where there are none.
    pub(super) async fn collect(
        &self,
        keys: SendableRecordBatchStream,
        budget: Budget,
        baseline: &BaselineMetrics,
    ) -> Result<Option<SortedRows>> {
        let mut width = None;
        let (schema, topk) = (keys.schema(), self.clone());
        let keys = keys.map(move |batch| {
            let batch = batch?;
            off_the_async_threads(|| topk.with_values(&batch, &mut width))
        });
        let keys = Box::pin(RecordBatchStreamAdapter::new(schema, keys));
        let rows = Collector::new(self.keys.clone(), budget).by_features();
        rows.collect(keys, baseline).await
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
        let (queries, keys) = (&self.queries, &self.keys);
        let row = queries.site(batch).row(input_row(&rows.present, 0)?);
        exec_err!(
            "query of {}, {}, has {have} dimensions ({row}) and key, {}, has {need}: both need the same number",
            queries.function,
            queries.column,
            keys.column
        )
    }

    /// The batch, without the keys of rows that have no value.
    ///
    /// # Errors
    /// Names the column and the row of a value that is no vector of as many finite numbers as the others.
    fn with_values(&self, batch: &RecordBatch, width: &mut Option<usize>) -> Result<RecordBatch> {
        let site = Site {
            column: self.value.clone(),
            ..self.keys.site(batch)
        };
        let values = std::slice::from_ref(batch.column(0));
        let extent = measure(values, &site)?;
        check_dimensions(width, &extent, &site)?;
        if extent.rows > 0 {
            let values = extract(values, extent, self.keys.float)?;
            match &values.matrix {
                Matrix::Float32(rows) => check_features(rows.view()),
                Matrix::Float64(rows) => check_features(rows.view()),
            }
            .map_err(|error| row_error(&error, &site, &values.present))?;
        }
        let missing: BooleanArray = is_null(batch.column(0))?;
        if missing.true_count() == 0 {
            return Ok(batch.clone());
        }
        let keys = nullif(batch.column(1), &missing)?;
        let columns = vec![std::sync::Arc::clone(batch.column(0)), keys];
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }
}

/// For plans.
pub(super) fn described(function: &str, topk: &TopK, rows: &[Option<usize>]) -> String {
    let [queries, keys] = [0, 1].map(|input| rows.get(input).copied().flatten());
    let method = topk.search.describe(keys, queries, topk.dimensions);
    format!("{function}({topk}, {method})")
}

impl fmt::Display for TopK {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (query, key) = (&self.queries.column, &self.keys.column);
        let (value, k) = (&self.value, self.search.k);
        write!(f, "{query}, {key}, {value}, k={k}, {}", self.scoring)
    }
}
