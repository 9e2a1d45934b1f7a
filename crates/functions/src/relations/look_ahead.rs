//! Queries that are read while others are answered, and can be counted before the first is.

use std::collections::VecDeque;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::common::spawn_buffered;
use futures::StreamExt;

use crate::memory::{Budget, batch_bytes};

/// Rows of a batch of queries: few, so that the first are soon there and the others are read while these are answered.
pub(super) const BATCH_ROWS: usize = 1024;

/// A stream that is read a batch ahead, and whose first batches may be held for a while.
pub(super) struct LookAhead {
    stream: SendableRecordBatchStream,
    held: VecDeque<RecordBatch>,
    budget: Budget,
}

impl LookAhead {
    pub(super) fn new(stream: SendableRecordBatchStream, budget: Budget) -> Self {
        Self {
            stream: spawn_buffered(stream, 1),
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
        match self.held.pop_front() {
            Some(batch) => {
                self.budget.release(batch_bytes(&batch));
                Ok(Some(batch))
            }
            None => self.stream.next().await.transpose(),
        }
    }
}
