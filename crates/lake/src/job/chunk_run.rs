//! One chunk, from rows to a visible file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::catalog::TableProvider;
use datafusion::common::{internal_err, plan_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::chunks::Chunk;
use super::diagnose::explain;
use super::footers::check_unchanged;
use super::manifest::{Record, announce};
use super::output::{Output, OutputLock};
use super::plan::JobPlan;
use super::report::JobControl;
use super::spec::OnInvalid;
use super::writer::{BATCHES_AHEAD, Encoded, Message, encode, properties};

/// What a chunk's work needs.
#[derive(Debug)]
pub(crate) struct ChunkRun {
    pub(crate) plan: JobPlan,
    pub(crate) output: Output,
    pub(crate) lock: OutputLock,
    pub(crate) control: JobControl,
    /// Set when another chunk has failed.
    pub(crate) failed: tokio::sync::watch::Sender<bool>,
}

/// A chunk that is visible.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) record: Record,
    pub(crate) chunk: Chunk,
    pub(crate) compute: Duration,
    pub(crate) write: Duration,
    pub(crate) commit: Duration,
}

impl ChunkRun {
    /// Writes a chunk; `None` if the job was stopped meanwhile.
    ///
    /// # Errors
    /// For bad rows, a changed input file, a store or disk that fails.
    pub(crate) async fn run(&self, chunk: Chunk) -> Result<Option<Done>> {
        let result = self.write(&chunk).await;
        if result.is_err() {
            self.failed.send_replace(true);
        }
        result
    }

    async fn write(&self, chunk: &Chunk) -> Result<Option<Done>> {
        let plan = &self.plan;
        let start = Instant::now();
        let reserved = MemoryConsumer::new(format!("chunk '{}'", chunk.name))
            .register(&plan.state.runtime_env().memory_pool);
        reserved.try_grow(plan.chunk_memory(chunk))?;
        let invalid = Arc::new(AtomicUsize::new(0));
        let batches = match self.batches(chunk, &invalid).await {
            Ok(batches) => batches,
            Err(error) => return Err(self.explained(chunk, error).await),
        };
        let schema = plan.output_schema(chunk, &batches.schema());
        let aside = self.output.begin(&chunk.name).await?;
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let properties = properties(&plan.job, &schema)?;
        let key_values = plan.key_values(chunk);
        let encoder = tokio::task::spawn_blocking(move || {
            encode(receiver, aside, &schema, properties, key_values)
        });
        let read = tokio::select! {
            read = self.feed(batches, sender) => read.map(|()| true),
            () = self.stopped() => Ok(false),
        };
        let (encoded, left) = encoder
            .await
            .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
        if let Some(left) = left {
            left.abandon().await;
        }
        let encoded = match (read, encoded) {
            (Ok(true), encoded) => encoded?,
            (Ok(false), Ok(encoded)) => {
                encoded.aside.abandon().await;
                return Ok(None);
            }
            (Ok(false), Err(_)) => return Ok(None),
            // The writer's own error is why the reader could not go on.
            (Err(Fed::WriterGone), encoded) => {
                encoded?;
                return internal_err!("the writer of a chunk stopped early");
            }
            (Err(Fed::Rows(error)), _) => return Err(self.explained(chunk, error).await),
        };
        let compute = start.elapsed();
        self.commit(chunk, encoded, &invalid, compute).await
    }

    async fn batches(
        &self,
        chunk: &Chunk,
        invalid: &Arc<AtomicUsize>,
    ) -> Result<SendableRecordBatchStream> {
        let plan = &self.plan;
        let Some(expressions) = &plan.expressions else {
            return internal_err!("a job was run before its model was fitted");
        };
        let table: Arc<dyn TableProvider> = Arc::new(plan.table_of(chunk)?);
        let counted = (plan.job.on_invalid == OnInvalid::Null).then_some(invalid);
        let logical = expressions.over(table, counted)?;
        let physical = plan.state.create_physical_plan(&logical).await?;
        if physical
            .properties()
            .output_partitioning()
            .partition_count()
            != 1
        {
            return internal_err!("a chunk was planned in several partitions");
        }
        execute_stream(physical, plan.state.task_ctx())
    }

    /// Hands rows to the writer, and waits when it is behind.
    async fn feed(
        &self,
        mut batches: SendableRecordBatchStream,
        sender: mpsc::Sender<Message>,
    ) -> std::result::Result<(), Fed> {
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(Fed::Rows)?;
            let rows = batch.num_rows();
            let sent = sender.send(Message::Batch(batch)).await;
            sent.map_err(|_| Fed::WriterGone)?;
            if let Some(reporter) = &self.control.reporter {
                reporter.rows(rows);
            }
        }
        sender.send(Message::End).await.map_err(|_| Fed::WriterGone)
    }

    /// Ends when this chunk is to be given up.
    async fn stopped(&self) {
        let mut failed = self.failed.subscribe();
        tokio::select! {
            () = self.control.stopped() => {}
            _ = failed.wait_for(|failed| *failed) => {}
        }
    }

    async fn commit(
        &self,
        chunk: &Chunk,
        encoded: Encoded,
        invalid: &AtomicUsize,
        elapsed: Duration,
    ) -> Result<Option<Done>> {
        let plan = &self.plan;
        let file = plan.file_of(chunk);
        let start = Instant::now();
        let checked = match check_unchanged(plan.input.store.as_ref(), file).await {
            Ok(()) if plan.job.filter.is_none() && encoded.rows != chunk.rows => {
                Err(plan_datafusion_err!(
                    "'{}' gave {} rows where its footer says {}: it is damaged, write it again",
                    file.name,
                    encoded.rows,
                    chunk.rows
                ))
            }
            checked => checked.and_then(|()| self.lock.check()),
        };
        if let Err(error) = checked {
            encoded.aside.abandon().await;
            return Err(error);
        }
        let record = Record {
            file: chunk.name.clone(),
            rows: encoded.rows,
            invalid: invalid.load(Ordering::Relaxed),
            bytes: encoded.bytes,
            sha256: encoded.sha256,
            input: file.stamp.clone(),
            row_groups: chunk.row_groups.clone(),
        };
        if let Err(error) = announce(&self.output, &record).await {
            encoded.aside.abandon().await;
            return Err(error);
        }
        encoded.aside.publish().await?;
        tracing::info!(
            file = record.file,
            rows = record.rows,
            bytes = record.bytes,
            invalid = record.invalid,
            input = record.input.path,
            seconds = elapsed.as_secs_f64(),
            "wrote a chunk"
        );
        if let Some(reporter) = &self.control.reporter {
            reporter.chunk(&record.file, record.rows, record.bytes);
        }
        Ok(Some(Done {
            record,
            chunk: chunk.clone(),
            compute: elapsed.saturating_sub(encoded.busy),
            write: encoded.busy,
            commit: start.elapsed(),
        }))
    }

    /// A file that changed under the reader is the better reason for whatever went wrong.
    async fn explained(&self, chunk: &Chunk, error: DataFusionError) -> DataFusionError {
        let file = self.plan.file_of(chunk);
        match check_unchanged(self.plan.input.store.as_ref(), file).await {
            Err(changed) => changed,
            Ok(()) => explain(&self.plan, chunk, error).await,
        }
    }
}

/// Why rows did not all reach the writer.
#[derive(Debug)]
enum Fed {
    Rows(DataFusionError),
    WriterGone,
}
