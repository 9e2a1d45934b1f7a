//! `attention_topk_error(queries, query_id, query, keys, key, value, …)`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;

use super::Signature;
use super::attention_topk::{ATTENTION_ARGUMENTS, ROWS_ARGUMENTS};
use super::call::{Call, Parameter};
use super::reduction::scan;
use super::search_arguments::{EF_CONSTRUCTION, EF_SEARCH, M, METHOD, METHOD_ARGUMENTS, SEED};
use super::searched_rows::ReadRows;
use super::topk_keys::TopKeys;
use super::topk_measures::{Measures, QuerySample, one_row, schema};
use super::topk_plan::TopK;
use super::topk_reduction::{Begun, OfTopK, OverTopK};
use crate::evaluator::off_the_async_threads;
use crate::fit_task::blocking;

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
    let function = TopKError {
        sample_size: call.whole_number("sample_size", 1)?.unwrap_or(100) as usize,
        seed: call.whole_number("seed", 0)?.unwrap_or(0),
    };
    scan(NAME, Arc::new(OverTopK { topk, function }), inputs)
}

#[derive(Debug, Clone)]
struct TopKError {
    sample_size: usize,
    seed: u64,
}

#[async_trait]
impl OfTopK for TopKError {
    const NAME: &'static str = NAME;
    const ANY_ORDER: bool = true;

    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn run(&self, topk: &TopK, begun: Begun) -> Result<SendableRecordBatchStream> {
        let Begun {
            mut queries,
            keys,
            running,
            budget,
            metrics,
            baseline,
            ..
        } = begun;
        let need = keys.as_ref().map(ReadRows::dimensions);
        let mut sample = QuerySample::new(self.sample_size, self.seed);
        while let Some(batch) = queries.next().await? {
            let _timer = baseline.elapsed_compute().timer();
            off_the_async_threads(|| sample.add(&batch, topk, need, &budget))?;
        }
        let mut measures = Measures::of_queries(sample.present());
        let (Some(keys), Some(queries)) = (keys, sample.into_queries()) else {
            return one_row(&measures);
        };
        let method = keys.method();
        let (held, _) = keys.indexed(&running, &metrics, &baseline).await?;
        let keys = TopKeys::new(held, topk)?;
        let control = running.part(&budget);
        let _timer = baseline.elapsed_compute().timer();
        let measures = blocking(move || {
            let _memory = keys.reserve_part(queries.dim().0)?;
            measures.compare(&keys, method, &queries, &control)?;
            Ok(measures)
        });
        one_row(&measures.await?)
    }
}
