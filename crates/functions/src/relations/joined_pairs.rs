//! The pairs of `knn_join`, as left rows come.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::physical_plan::metrics::BaselineMetrics;

use super::indexing::SearchMetrics;
use super::look_ahead::LookAhead;
use super::nearest::{PartControl, next_part, pairs, reserve_part};
use crate::evaluator::off_the_async_threads;
use crate::features::input_row;
use crate::fit_task::{CancelOnDrop, blocking};
use crate::held_rows::{Rows, Source};
use crate::indexed_rows::HeldRows;
use crate::memory::Budget;
use crate::progress::Announced;

/// The result, a part of a left batch at a time.
pub(super) struct Pairs {
    pub(super) left: LookAhead,
    pub(super) search: SearchMetrics,
    /// Left rows so far.
    pub(super) answered: usize,
    pub(super) source: Source,
    pub(super) right_column: String,
    /// Of the left rows so far.
    pub(super) dimensions: Option<usize>,
    /// `None` where the right side has no rows.
    pub(super) held: Option<Arc<HeldRows>>,
    pub(super) k: usize,
    pub(super) schema: SchemaRef,
    pub(super) baseline: BaselineMetrics,
    pub(super) left_batch: Option<LeftBatch>,
    /// The memory of the part that is being read.
    pub(super) part: Option<Budget>,
    pub(super) announced: Arc<Announced>,
    pub(super) cancelled: CancelOnDrop,
}

/// Left rows, of which those from `next` on are still to be answered.
pub(super) struct LeftBatch {
    rows: Arc<Rows<'static>>,
    next: usize,
    held: Arc<HeldRows>,
}

impl Pairs {
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.part = None;
        loop {
            if let Some(batch) = &mut self.left_batch {
                let part = next_part(batch.next, batch.rows.ids.len(), self.k);
                if !part.is_empty() {
                    batch.next = part.end;
                    let (rows, held) = (Arc::clone(&batch.rows), Arc::clone(&batch.held));
                    return self.answer(rows, held, part).await.map(Some);
                }
                self.left_batch = None;
            }
            let Some(batch) = self.left.next().await? else {
                return Ok(None);
            };
            let _timer = self.baseline.elapsed_compute().timer();
            let read = off_the_async_threads(|| self.source.read(&batch, &mut self.dimensions))?;
            if let Some(rows) = read {
                self.left_batch = Some(LeftBatch {
                    held: self.comparable(&rows, &batch)?,
                    rows: Arc::new(rows.into_owned()),
                    next: 0,
                });
            }
        }
    }

    /// The right rows, if the left ones can be compared with them.
    fn comparable(&self, rows: &Rows<'_>, batch: &RecordBatch) -> Result<Arc<HeldRows>> {
        let Source {
            function,
            column: left,
            ..
        } = &self.source;
        let right = &self.right_column;
        let found = self.held.as_ref().map_or(0, |held| held.len());
        let (Some(held), true) = (&self.held, self.k <= found) else {
            return exec_err!(
                "k = {} of {function} needs as many right rows, found {found} with features in column {right}: \
                 lower k or search more rows",
                self.k
            );
        };
        let (have, need) = (self.dimensions.unwrap_or(0), held.dimensions());
        if have != need {
            let row = self.source.site(batch).row(input_row(&rows.present, 0)?);
            return exec_err!(
                "left_features of {function}, {left}, has {have} dimensions ({row}) and right_features, {right}, \
                 has {need}: both need the same number"
            );
        }
        Ok(Arc::clone(held))
    }

    async fn answer(
        &mut self,
        rows: Arc<Rows<'static>>,
        held: Arc<HeldRows>,
        part: Range<usize>,
    ) -> Result<RecordBatch> {
        let searched = part.len();
        let control = PartControl {
            budget: held.budget.sibling(),
            cancelled: Arc::clone(&self.cancelled.0),
            announced: Arc::clone(&self.announced),
        };
        let (schema, k) = (Arc::clone(&self.schema), self.k);
        let (search, first) = (self.search.clone(), self.answered);
        self.answered += searched;
        let _timer = self.baseline.elapsed_compute().timer();
        let (batch, part) = blocking(move || {
            let memory = reserve_part(&held, part.len(), k)?;
            let ids = rows.ids.slice(part.start, part.len());
            let nearest = held.nearest(&rows.features, part.clone(), k, &control)?;
            search.answered_from(first, &nearest, (&rows.features, part), &held)?;
            Ok((pairs(&schema, &ids, nearest, &held)?, memory))
        })
        .await?;
        self.announced.add(searched);
        self.part = Some(part);
        Ok(batch)
    }
}
