//! Queries that are counted before the first is answered.

use std::collections::VecDeque;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use crate::memory::{Budget, batch_bytes};

/// A stream whose first batches may be held for a while.
pub(super) struct LookAhead {
    stream: SendableRecordBatchStream,
    held: VecDeque<RecordBatch>,
    budget: Budget,
}

impl LookAhead {
    pub(super) fn new(stream: SendableRecordBatchStream, budget: Budget) -> Self {
        Self {
            stream,
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
