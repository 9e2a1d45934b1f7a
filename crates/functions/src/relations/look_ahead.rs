//! Queries that are counted before the first is answered, and read while others are.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};

use super::parts::PART_ROWS;
use crate::memory::{Budget, batch_bytes};

/// Rows of a batch of queries: few, so that the first are soon there.
pub(super) const BATCH_ROWS: usize = 1024;

/// A stream whose first batches may be held for a while. From the first that is asked for on it is read one batch ahead,
/// in the background, and batches grow to what is searched for at once.
pub(super) struct LookAhead {
    stream: SendableRecordBatchStream,
    is_ahead: bool,
    held: VecDeque<RecordBatch>,
    budget: Budget,
}

impl LookAhead {
    pub(super) fn new(stream: SendableRecordBatchStream, budget: Budget) -> Self {
        Self {
            stream,
            is_ahead: false,
            held: VecDeque::new(),
            budget,
        }
    }

    /// Whether the stream has `enough` rows. They are held until they are asked for; `None` if there is no
    /// memory for that.
    pub(super) async fn has(&mut self, enough: usize) -> Result<Option<bool>> {
        let mut rows: usize = self.held.iter().map(RecordBatch::num_rows).sum();
        while rows < enough {
            let Some(batch) = self.stream.next().await.transpose()? else {
                return Ok(Some(false));
            };
            rows += batch.num_rows();
            let granted = self.budget.reserve("queries", batch_bytes(&batch)).is_ok();
            self.held.push_back(batch);
            if !granted {
                return Ok(None);
            }
        }
        Ok(Some(true))
    }

    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if !self.is_ahead {
            self.is_ahead = true;
            let none = Box::pin(EmptyRecordBatchStream::new(self.stream.schema()));
            let stream = std::mem::replace(&mut self.stream, none);
            self.stream = spawn_buffered(growing(stream), 1);
        }
        match self.held.pop_front() {
            Some(batch) => {
                self.budget.release(batch_bytes(&batch));
                Ok(Some(batch))
            }
            None => self.stream.next().await.transpose(),
        }
    }
}

/// The same rows, each batch with at least twice as many as the one before until it has [`PART_ROWS`], as far as there are
/// so many.
fn growing(stream: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = stream.schema();
    let joined = stream::try_unfold((stream, 1), async |(mut stream, least)| {
        let (mut batches, mut rows) = (Vec::new(), 0);
        while rows < least
            && let Some(batch) = stream.next().await.transpose()?
        {
            rows += batch.num_rows();
            batches.push(batch);
        }
        let batch = match batches.as_slice() {
            [] => return Ok(None),
            [batch] => batch.clone(),
            batches => concat_batches(&stream.schema(), batches)?,
        };
        let least = (2 * rows).clamp(1, PART_ROWS);
        Ok(Some((batch, (stream, least))))
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), joined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{AsArray, UInt32Array};
    use datafusion::arrow::datatypes::UInt32Type;
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};

    /// Consecutive numbers in batches of these sizes.
    fn numbers(sizes: &[usize]) -> LookAhead {
        let mut next = 0;
        let batches = sizes.iter().map(|&size| {
            let rows = next..next + size as u32;
            next = rows.end;
            let rows = Arc::new(UInt32Array::from_iter_values(rows)) as _;
            RecordBatch::try_from_iter([("n", rows)]).unwrap()
        });
        let batches: Vec<RecordBatch> = batches.collect();
        let schema = batches[0].schema();
        let batches = stream::iter(batches.into_iter().map(Ok));
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let batches = Box::pin(RecordBatchStreamAdapter::new(schema, batches));
        LookAhead::new(batches, Budget::new(&pool, "test"))
    }

    /// The sizes of what is given, which must be all numbers in their order.
    async fn sizes(mut queries: LookAhead) -> Vec<usize> {
        let (mut sizes, mut all) = (Vec::new(), Vec::new());
        while let Some(batch) = queries.next().await.unwrap() {
            sizes.push(batch.num_rows());
            all.extend_from_slice(batch.column(0).as_primitive::<UInt32Type>().values());
        }
        assert!(all.iter().copied().eq(0..all.len() as u32));
        sizes
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn batches_grow_to_a_part() {
        let small = numbers(&[BATCH_ROWS; 10]);
        assert_eq!(sizes(small).await, [1024, 2048, 4096, 3072]);
        // Large ones are not copied together.
        assert_eq!(sizes(numbers(&[8192, 8192, 100])).await, [8192, 8192, 100]);
        assert_eq!(sizes(numbers(&[0, 0, 3, 0, 1, 0])).await, [3, 1]);
        assert!(sizes(numbers(&[0])).await.iter().sum::<usize>() == 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_counted_comes_first() {
        for enough in [0, 1, 1500, 2048, 5000, 20_000] {
            let mut queries = numbers(&[BATCH_ROWS; 10]);
            assert_eq!(queries.has(enough).await.unwrap(), Some(enough <= 10_240));
            assert_eq!(sizes(queries).await.iter().sum::<usize>(), 10_240);
        }
    }
}
