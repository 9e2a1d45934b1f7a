//! `attention_topk(queries, query_id, query, keys, key, value, k => 64, …)`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use lakefold_manifold::NeighborMethod;

use super::Signature;
use super::call::{Call, Parameter};
use super::parts::{QueryParts, stream_of};
use super::reduction::scan;
use super::search_arguments::{EF_CONSTRUCTION, EF_SEARCH, M, METHOD, METHOD_ARGUMENTS, SEED};
use super::search_metrics::SearchMetrics;
use super::topk_answers::Answers;
use super::topk_error::ErrorMetrics;
use super::topk_keys::TopKeys;
use super::topk_plan::TopK;
use super::topk_reduction::{Begun, OfTopK, OverTopK};

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
        What is left out is measured: every 64th query, up to 100 of them (through a graph fewer, so that they \
        take some hundredths of the time, and none of a few queries through a stored index), also attends to all keys, and EXPLAIN ANALYZE shows the difference; \
        `attention_topk_error`, with the same arguments, returns it. \
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
    let function = AttentionTopK {
        schema: Arc::new(schema),
    };
    scan(NAME, Arc::new(OverTopK { topk, function }), inputs)
}

#[derive(Debug, Clone)]
struct AttentionTopK {
    schema: SchemaRef,
}

#[async_trait]
impl OfTopK for AttentionTopK {
    const NAME: &'static str = NAME;
    const ANY_ORDER: bool = false;

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn run(&self, topk: &TopK, begun: Begun) -> Result<SendableRecordBatchStream> {
        let Begun {
            queries,
            keys,
            running,
            budget,
            context,
            metrics,
            baseline,
        } = begun;
        let (top_keys, search) = match keys {
            None => (None, SearchMetrics::new(&metrics, NeighborMethod::Exact)),
            Some(keys) => {
                let (held, search) = keys.indexed(&running, &metrics, &baseline).await?;
                (Some(TopKeys::new(held, topk)?), search)
            }
        };
        let answers = Answers {
            topk: Arc::new(topk.clone()),
            queries: QueryParts::new(queries, topk.keys.search.k),
            dimensions: None,
            top_keys: top_keys.map(Arc::new),
            answered: 0,
            schema: self.schema(),
            baseline: baseline.clone(),
            search,
            errors: ErrorMetrics::new(&metrics),
            budget,
            part: None,
            running,
        };
        Ok(stream_of(answers, self.schema(), &context, baseline))
    }
}
