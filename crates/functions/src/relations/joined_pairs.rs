//! The pairs of `knn_join`, as left rows come.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::physical_plan::metrics::BaselineMetrics;

use super::nearest::{pairs, reserve_part};
use super::parts::{Parts, QueryParts, Running};
use super::search_metrics::SearchMetrics;
use crate::features::input_row;
use crate::fit_task::blocking;
use crate::held_rows::{Rows, Source};
use crate::indexed_rows::HeldRows;
use crate::memory::Budget;

/// The result, a part of a left batch at a time.
pub(super) struct Pairs {
    pub(super) left: QueryParts,
    pub(super) right: Arc<Right>,
    pub(super) search: SearchMetrics,
    /// Left rows so far.
    pub(super) answered: usize,
    /// Of the left rows so far.
    pub(super) dimensions: Option<usize>,
    pub(super) baseline: BaselineMetrics,
    /// Of searches.
    pub(super) budget: Budget,
    /// The memory of the part that is being read.
    pub(super) part: Option<Budget>,
    pub(super) running: Running,
}

/// What left rows are paired with.
pub(super) struct Right {
    /// Of the left rows.
    pub(super) source: Source,
    /// The right features as written.
    pub(super) column: String,
    /// `None` where there are no right rows.
    pub(super) held: Option<HeldRows>,
    pub(super) k: usize,
    /// Of the result.
    pub(super) schema: SchemaRef,
}

impl Right {
    /// Its rows, if left ones of a batch can be compared with them.
    fn comparable(&self, rows: &Rows<'_>, batch: &RecordBatch) -> Result<&HeldRows> {
        let Source {
            function,
            column: left,
            ..
        } = &self.source;
        let (right, k) = (&self.column, self.k);
        let found = self.held.as_ref().map_or(0, HeldRows::len);
        let (Some(held), true) = (&self.held, k <= found) else {
            return exec_err!(
                "k = {k} of {function} needs as many right rows, found {found} with features in column {right}: \
                 lower k or search more rows"
            );
        };
        let (have, need) = (rows.features.dim().1, held.dimensions());
        if have != need {
            let row = self.source.site(batch).row(input_row(&rows.present, 0)?);
            return exec_err!(
                "left_features of {function}, {left}, has {have} dimensions ({row}) and right_features, {right}, \
                 has {need}: both need the same number"
            );
        }
        Ok(held)
    }
}

#[async_trait]
impl Parts for Pairs {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.part = None;
        while let Some(batch) = self.left.next().await? {
            if let Some(pairs) = self.answer(batch).await? {
                return Ok(Some(pairs));
            }
        }
        self.finish().await?;
        Ok(None)
    }
}

impl Pairs {
    async fn finish(&mut self) -> Result<()> {
        if !self.search.is_unfinished() {
            return Ok(());
        }
        let (search, right) = (self.search.clone(), Arc::clone(&self.right));
        let _timer = self.baseline.elapsed_compute().timer();
        let control = self.running.part(&self.budget);
        blocking(move || match &right.held {
            Some(held) => search.finish(held, &control),
            None => Ok(()),
        })
        .await
    }

    /// `None` where no left row has features.
    async fn answer(&mut self, left: RecordBatch) -> Result<Option<RecordBatch>> {
        let _timer = self.baseline.elapsed_compute().timer();
        let (search, first) = (self.search.clone(), self.answered);
        let (right, mut dimensions) = (Arc::clone(&self.right), self.dimensions);
        let control = self.running.part(&self.budget);
        let (dimensions, answer) = blocking(move || {
            let Some(rows) = right.source.read(&left, &mut dimensions)? else {
                return Ok((dimensions, None));
            };
            let held = right.comparable(&rows, &left)?;
            let (searched, k) = (rows.ids.len(), right.k);
            let memory = reserve_part(held, searched, k)?;
            let nearest = held.nearest(&rows.features, 0..searched, k, &control)?;
            search.answered(first, Some(&rows.features), &nearest, held, &control)?;
            let pairs = pairs(&right.schema, &rows.ids, nearest, held)?;
            Ok((dimensions, Some((searched, pairs, memory))))
        })
        .await?;
        self.dimensions = dimensions;
        Ok(answer.map(|(searched, pairs, memory)| {
            self.answered += searched;
            self.running.answered(searched);
            self.part = Some(memory);
            pairs
        }))
    }
}
