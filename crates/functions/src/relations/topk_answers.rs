//! The result of `attention_topk`, as queries come.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::physical_plan::metrics::BaselineMetrics;

use super::parts::{Parts, QueryParts, Running};
use super::search_metrics::SearchMetrics;
use super::topk_error::ErrorMetrics;
use super::topk_keys::{Attended, TopKeys};
use super::topk_plan::TopK;
use crate::embeddings::embedding_array;
use crate::fit_task::blocking;
use crate::memory::Budget;

/// A part of a batch of queries at a time.
pub(super) struct Answers {
    pub(super) topk: Arc<TopK>,
    pub(super) queries: QueryParts,
    /// Of the queries so far.
    pub(super) dimensions: Option<usize>,
    /// `None` where there are no keys.
    pub(super) top_keys: Option<Arc<TopKeys>>,
    /// Queries so far, those that are NULL left out.
    pub(super) answered: usize,
    pub(super) schema: SchemaRef,
    pub(super) baseline: BaselineMetrics,
    pub(super) search: SearchMetrics,
    pub(super) errors: ErrorMetrics,
    /// Of searches.
    pub(super) budget: Budget,
    /// The memory of the part that is being read.
    pub(super) part: Option<Budget>,
    pub(super) running: Running,
}

/// What the queries of a part found.
struct Found {
    attended: Attended,
    /// Which queries are not NULL.
    present: BooleanBuffer,
    /// Queries that attended to any keys.
    count: usize,
    memory: Option<Budget>,
}

#[async_trait]
impl Parts for Answers {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.part = None;
        match self.queries.next().await? {
            Some(queries) => self.answer(queries).await.map(Some),
            None => self.finish().await.map(|()| None),
        }
    }
}

impl Answers {
    async fn finish(&mut self) -> Result<()> {
        let (search, keys) = (self.search.clone(), self.top_keys.clone());
        let (Some(keys), true) = (keys, search.is_unfinished()) else {
            return Ok(());
        };
        let _timer = self.baseline.elapsed_compute().timer();
        let control = self.running.part(&self.budget);
        blocking(move || search.finish(keys.held(), &control)).await
    }

    async fn answer(&mut self, queries: RecordBatch) -> Result<RecordBatch> {
        let _timer = self.baseline.elapsed_compute().timer();
        let ids = Arc::clone(queries.column(0));
        let (topk, top_keys) = (Arc::clone(&self.topk), self.top_keys.clone());
        let (first, mut dimensions) = (self.answered, self.dimensions);
        let (search, errors) = (self.search.clone(), self.errors.clone());
        let control = self.running.part(&self.budget);
        let (dimensions, found) = blocking(move || {
            let read = topk.queries.read(&queries, &mut dimensions)?;
            let (Some(rows), Some(keys)) = (read, top_keys) else {
                let found = Found {
                    attended: Attended::default(),
                    present: BooleanBuffer::new_unset(queries.num_rows()),
                    count: 0,
                    memory: None,
                };
                return Ok((dimensions, found));
            };
            topk.check_comparable(&rows, keys.held().dimensions(), &queries)?;
            let (features, count) = (rows.features, rows.ids.len());
            let memory = keys.reserve_part(count)?;
            let nearest = keys.nearest(&features, &control)?;
            search.answered(first, Some(&features), &nearest, keys.held(), &control)?;
            let attended = keys.attend(&nearest)?;
            errors.measure(first, &keys, (&features, &nearest), &attended)?;
            let found = Found {
                attended,
                present: rows.present,
                count,
                memory: Some(memory),
            };
            Ok((dimensions, found))
        })
        .await?;
        self.dimensions = dimensions;
        self.answered += found.count;
        self.running.answered(found.count);
        self.part = found.memory;
        self.batch(ids, found.attended, found.present)
    }

    /// One row a query, NULL where it is not `present`.
    fn batch(
        &self,
        ids: ArrayRef,
        attended: Attended,
        present: BooleanBuffer,
    ) -> Result<RecordBatch> {
        let width = self.top_keys.as_ref().map_or(0, |keys| keys.width());
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
