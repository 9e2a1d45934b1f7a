//! Tables that are computed a part at a time, as they are read.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::{BaselineMetrics, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt, stream};
use lakefold_manifold::{Control, Phase, ReserveError};

use super::indexing::Building;
use super::look_ahead::LookAhead;
use crate::fit_task::CancelOnDrop;
use crate::memory::Budget;
use crate::progress::Announced;

/// Rows that are searched for at once. Bits do not depend on it.
pub(super) const PART_ROWS: usize = 4096;
/// Pairs that a part has at most, if it has more than one row.
const PART_PAIRS: usize = 1 << 17;

/// The next rows to search for, from `start` on.
pub(super) fn next_part(start: usize, rows: usize, k: usize) -> Range<usize> {
    let part = (PART_PAIRS / k).clamp(1, PART_ROWS);
    start..rows.min(start.saturating_add(part))
}

/// What gives the parts.
#[async_trait]
pub(super) trait Parts: Send + 'static {
    /// The next one, `None` after the last. The memory of the one before it is given back first.
    async fn next(&mut self) -> Result<Option<RecordBatch>>;
}

/// The parts as a stream, in batches of the size that is set.
pub(super) fn stream_of(
    parts: impl Parts,
    schema: SchemaRef,
    context: &TaskContext,
    baseline: BaselineMetrics,
) -> SendableRecordBatchStream {
    let parts = stream::try_unfold(parts, async |mut parts| {
        let part = parts.next().await?;
        Ok::<_, DataFusionError>(part.map(|part| (part, parts)))
    });
    let batch_size = context.session_config().batch_size();
    let batches = parts
        .map_ok(move |part| stream::iter(slices(&part, batch_size).map(Ok)))
        .try_flatten()
        .map_ok(move |batch| batch.record_output(&baseline));
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// Slices of at most `rows` rows.
fn slices(batch: &RecordBatch, rows: usize) -> impl Iterator<Item = RecordBatch> + use<> {
    let (batch, rows) = (batch.clone(), rows.max(1));
    let starts = (0..batch.num_rows()).step_by(rows);
    starts.map(move |start| batch.slice(start, rows.min(batch.num_rows() - start)))
}

/// Rows that are searched for, as they come, a part of a batch at a time.
pub(super) struct QueryParts {
    queries: LookAhead,
    k: usize,
    /// Those from the row `next` on are still to be given.
    batch: Option<RecordBatch>,
    next: usize,
}

impl QueryParts {
    /// `k` neighbours are sought for each.
    pub(super) fn new(queries: LookAhead, k: usize) -> Self {
        Self {
            queries,
            k,
            batch: None,
            next: 0,
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = &self.batch {
                let part = next_part(self.next, batch.num_rows(), self.k);
                if !part.is_empty() {
                    self.next = part.end;
                    return Ok(Some(batch.slice(part.start, part.len())));
                }
            }
            self.next = 0;
            self.batch = self.queries.next().await?;
            if self.batch.is_none() {
                return Ok(None);
            }
        }
    }
}

/// A search that goes on: it is announced, and ends when this is dropped.
pub(super) struct Running {
    cancelled: CancelOnDrop,
    announced: Arc<Announced>,
}

impl Running {
    /// Of so many rows to be searched for; 0 where nobody knows.
    pub(super) fn new(context: &TaskContext, rows: usize) -> Self {
        Self {
            cancelled: CancelOnDrop(Arc::new(AtomicBool::new(false))),
            announced: Arc::new(Announced::new(context, Phase::Neighbors, rows)),
        }
    }

    /// While an index is built.
    pub(super) fn building(&self) -> Building {
        Building {
            cancelled: Arc::clone(&self.cancelled.0),
            announced: Arc::clone(&self.announced),
        }
    }

    /// While a part is searched for, with memory from `budget`'s pool.
    pub(super) fn part(&self, budget: &Budget) -> PartControl {
        PartControl {
            cancelled: Arc::clone(&self.cancelled.0),
            budget: budget.sibling(),
            announced: Arc::clone(&self.announced),
        }
    }

    /// Another so many rows have their answer.
    pub(super) fn answered(&self, rows: usize) {
        self.announced.add(rows);
    }
}

/// Of the search for a part: its progress is the progress of the whole.
pub(super) struct PartControl {
    cancelled: Arc<AtomicBool>,
    budget: Budget,
    announced: Arc<Announced>,
}

impl Control for PartControl {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn progress(&self, _phase: Phase, done: u64, _total: u64) {
        self.announced.within(done);
    }

    fn reserve(&self, purpose: &str, bytes: usize) -> std::result::Result<(), ReserveError> {
        self.budget.reserve(purpose, bytes)
    }

    fn release(&self, bytes: usize) {
        self.budget.release(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, UInt64Array};
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};

    fn batch(rows: Range<i64>) -> RecordBatch {
        let rows = Arc::new(Int64Array::from_iter_values(rows)) as _;
        RecordBatch::try_from_iter([("n", rows)]).unwrap()
    }

    #[test]
    fn parts_have_so_many_pairs_and_one_row_at_least() {
        assert_eq!(next_part(0, 10_000, 10), 0..PART_ROWS);
        assert_eq!(next_part(9_000, 10_000, 10), 9_000..10_000);
        assert_eq!(next_part(3, 10_000, PART_PAIRS / 2), 3..5);
        assert_eq!(next_part(3, 10_000, 2 * PART_PAIRS), 3..4);
        assert!(next_part(10_000, 10_000, 10).is_empty());
        let cut: Vec<_> = slices(&batch(0..10), 4).map(|s| s.num_rows()).collect();
        assert_eq!(cut, [4, 4, 2]);
    }

    #[tokio::test]
    async fn parts_of_queries_are_those_of_each_batch_in_their_order() {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let batches = [batch(0..5), batch(5..5), batch(5..6)];
        let schema = batches[0].schema();
        let batches = stream::iter(batches.map(Ok));
        let batches = Box::pin(RecordBatchStreamAdapter::new(schema, batches));
        let queries = LookAhead::new(batches, Budget::new(&pool, "test"));
        let mut queries = QueryParts::new(queries, PART_PAIRS / 2);
        let mut parts = Vec::new();
        while let Some(part) = queries.next().await.unwrap() {
            parts.push(part);
        }
        let expected = [0..2, 2..4, 4..5, 5..6].map(batch);
        assert_eq!(parts, expected);
    }

    struct Counted(u64);

    #[async_trait]
    impl Parts for Counted {
        async fn next(&mut self) -> Result<Option<RecordBatch>> {
            if self.0 == 3 {
                return Ok(None);
            }
            self.0 += 1;
            let rows = Arc::new(UInt64Array::from_iter_values(0..10_000 * self.0)) as _;
            Ok(Some(RecordBatch::try_from_iter([("n", rows)])?))
        }
    }

    #[tokio::test]
    async fn a_stream_of_parts_has_batches_of_the_size_that_is_set() {
        let context = TaskContext::default();
        let size = context.session_config().batch_size();
        let schema = Counted(0).next().await.unwrap().unwrap().schema();
        let metrics = datafusion::physical_plan::metrics::ExecutionPlanMetricsSet::new();
        let baseline = BaselineMetrics::new(&metrics, 0);
        let batches = stream_of(Counted(0), schema, &context, baseline);
        let batches: Vec<_> = batches.try_collect().await.unwrap();
        let rows = batches.iter().map(RecordBatch::num_rows);
        assert!(rows.clone().all(|rows| rows <= size));
        assert_eq!(rows.sum::<usize>(), 60_000);
        assert_eq!(metrics.clone_inner().output_rows(), Some(60_000));
    }
}
