//! Rows that are read once and handed on later: the first of them in memory, the rest on disk.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::spill::spill_pool::{SpillPoolSink, spsc_channel};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

/// Bytes of a temporary file; each is deleted when it has been read.
const FILE_BYTES: usize = 128 << 20;

/// Batches in the order in which they came.
pub(crate) struct RowStore {
    spill: Arc<SpillManager>,
    memory: Vec<RecordBatch>,
    /// What came after those in memory.
    disk: Option<(SpillPoolSink, SendableRecordBatchStream)>,
}

impl RowStore {
    /// Whatever is spilled goes to temporary files of the session's disk manager.
    pub(crate) fn new(spill: Arc<SpillManager>) -> Self {
        Self {
            spill,
            memory: Vec::new(),
            disk: None,
        }
    }

    /// Batches in memory.
    pub(crate) fn memory(&self) -> &[RecordBatch] {
        &self.memory
    }

    /// Keeps a batch in memory, which must not happen after [`RowStore::spill`].
    pub(crate) fn hold(&mut self, batch: RecordBatch) {
        debug_assert!(
            self.disk.is_none(),
            "rows on disk come after those in memory"
        );
        self.memory.push(batch);
    }

    /// Writes a batch to disk.
    ///
    /// # Errors
    /// When the disk is full, or the limit of the session's disk manager is reached.
    pub(crate) fn spill(&mut self, batch: &RecordBatch) -> Result<()> {
        let manager = &self.spill;
        let (sink, _) = self
            .disk
            .get_or_insert_with(|| spsc_channel(FILE_BYTES, Arc::clone(manager)));
        sink.push_batch(batch)
    }

    /// All batches, in order.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<RecordBatch>> {
        let memory = stream::iter(self.memory.into_iter().map(Ok));
        match self.disk {
            // The sink is dropped here, which ends the stream after what was written.
            Some((_, disk)) => memory.chain(disk).boxed(),
            None => memory.boxed(),
        }
    }
}
