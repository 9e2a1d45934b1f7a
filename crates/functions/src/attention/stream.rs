//! How `SelfAttentionExec` runs: whole partitions of the window are gathered and computed together.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::{SortOptions, concat, partition};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{BaselineMetrics, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::try_unfold;

use super::blocks::Lists;
use super::exec::{AttentionCall, SelfAttentionExec};
use super::frames::frames;
use super::self_attention::NAME;
use crate::features::Site;
use crate::fit_task::{CancelOnDrop, blocking};
use crate::fixed_lists::restored;
use crate::memory::{Budget, INPUT, array_bytes, batch_bytes, resources_exhausted};

/// The output of one partition of the plan.
pub(crate) fn attention_stream(
    plan: &SelfAttentionExec,
    input: SendableRecordBatchStream,
    context: &Arc<TaskContext>,
    baseline: BaselineMetrics,
) -> SendableRecordBatchStream {
    let budget = Budget::new(context.memory_pool(), NAME);
    let run = Run {
        work: Arc::new(Work {
            calls: Arc::clone(&plan.calls),
            partition_by: plan.partition_by.clone(),
            order_by: plan.order_by.clone(),
            schema: plan.schema(),
        }),
        input: Some(input),
        waiting: Chunk::new(&budget),
        following: None,
        ready: VecDeque::new(),
        held: None,
        budget,
        baseline,
        cancelled: CancelOnDrop(Arc::new(AtomicBool::new(false))),
    };
    let batches = try_unfold(run, |mut run| async move {
        let batch = run.next().await?;
        Ok(batch.map(|batch| (batch, run)))
    });
    Box::pin(RecordBatchStreamAdapter::new(plan.schema(), batches))
}

/// Rows that wait for the end of their partition of the window, and their memory.
struct Chunk {
    batches: Vec<RecordBatch>,
    held: Budget,
}

/// Whole partitions of the window: those of a piece are computed together, and only the batches of one piece have to
/// be joined for that.
struct Whole {
    pieces: Vec<Vec<RecordBatch>>,
    held: Budget,
}

impl Chunk {
    fn new(budget: &Budget) -> Self {
        Self {
            batches: vec![],
            held: budget.sibling(),
        }
    }

    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.held
                .reserve(INPUT, batch_bytes(&batch))
                .map_err(|error| resources_exhausted(NAME, &error))?;
            self.batches.push(batch);
        }
        Ok(())
    }

    /// It, and other whole partitions of the window that lie in one batch.
    fn whole(mut self, others: Option<RecordBatch>) -> Result<Whole> {
        let mut pieces = vec![std::mem::take(&mut self.batches)];
        if let Some(others) = others {
            self.push(others)?;
            pieces.push(self.batches);
        }
        pieces.retain(|piece| !piece.is_empty());
        Ok(Whole {
            pieces,
            held: self.held,
        })
    }
}

struct Run {
    work: Arc<Work>,
    /// `None` at its end.
    input: Option<SendableRecordBatchStream>,
    waiting: Chunk,
    /// What was gathered while others were computed.
    following: Option<Whole>,
    ready: VecDeque<RecordBatch>,
    /// The memory of what is ready.
    held: Option<Budget>,
    budget: Budget,
    baseline: BaselineMetrics,
    cancelled: CancelOnDrop,
}

impl Run {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch.record_output(&self.baseline)));
            }
            self.held = None;
            let whole = match self.following.take() {
                Some(whole) => Some(whole),
                None => self.gather().await?,
            };
            let Some(whole) = whole else {
                return Ok(None);
            };
            let (work, cancelled) = (Arc::clone(&self.work), Arc::clone(&self.cancelled.0));
            let timer = self.baseline.elapsed_compute().clone();
            let attended = blocking(move || {
                let _timer = timer.timer();
                work.attend(whole, &cancelled)
            });
            // The input goes on while these are computed, but what is computed does not wait for it: nothing is lost
            // when gathering is dropped, because it waits for batches only.
            let mut attended = pin!(attended);
            let (done, following) = match select(attended.as_mut(), pin!(self.gather())).await {
                Either::Left((done, _)) => (Some(done), None),
                Either::Right((following, _)) => (None, following?),
            };
            self.following = following;
            let (batches, held) = match done {
                Some(done) => done?,
                None => attended.await?,
            };
            self.ready = batches.into();
            self.held = Some(held);
        }
    }

    /// The next whole partitions of the window; `None` at the input's end.
    async fn gather(&mut self) -> Result<Option<Whole>> {
        while let Some(input) = &mut self.input {
            let whole = if let Some(batch) = input.next().await.transpose()? {
                self.take(batch)?
            } else {
                self.input = None;
                let rest = Chunk::new(&self.budget);
                Some(std::mem::replace(&mut self.waiting, rest).whole(None)?)
            };
            if whole.as_ref().is_some_and(|whole| !whole.pieces.is_empty()) {
                return Ok(whole);
            }
        }
        Ok(None)
    }

    /// Takes a batch in; the rows of partitions that end in it, or before it, come out.
    fn take(&mut self, batch: RecordBatch) -> Result<Option<Whole>> {
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        let partitions = self.work.partitions(&batch)?;
        let (Some(first), Some(last)) = (partitions.first(), partitions.last()) else {
            return Ok(None);
        };
        let anew = match self.waiting.batches.last() {
            Some(waiting) => self.work.starts_anew(waiting, &batch)?,
            None => true,
        };
        if partitions.len() == 1 && (!anew || self.waiting.batches.is_empty()) {
            self.waiting.push(batch)?;
            return Ok(None);
        }
        let mut rest = Chunk::new(&self.budget);
        rest.push(batch.slice(last.start, last.len()))?;
        let mut waiting = std::mem::replace(&mut self.waiting, rest);
        let own = if anew { 0 } else { first.end };
        waiting.push(batch.slice(0, own))?;
        let others = batch.slice(own, last.start - own);
        waiting.whole(Some(others)).map(Some)
    }
}

struct Work {
    calls: Arc<[AttentionCall]>,
    partition_by: Vec<Arc<dyn PhysicalExpr>>,
    order_by: Vec<PhysicalSortExpr>,
    schema: SchemaRef,
}

impl Work {
    fn keys(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let keys = self.partition_by.iter();
        keys.map(|key| key.evaluate(batch)?.into_array(batch.num_rows()))
            .collect()
    }

    /// The partitions of the window in a batch.
    fn partitions(&self, batch: &RecordBatch) -> Result<Vec<Range<usize>>> {
        runs(&self.keys(batch)?, batch.num_rows())
    }

    /// Whether `batch` begins with another partition than the one that the batch before it ended with.
    fn starts_anew(&self, before: &RecordBatch, batch: &RecordBatch) -> Result<bool> {
        let last = self.keys(&before.slice(before.num_rows() - 1, 1))?;
        let first = self.keys(&batch.slice(0, 1))?;
        let keys = last.iter().zip(&first);
        let keys = keys
            .map(|(last, first)| Ok(concat(&[last.as_ref(), first.as_ref()])?))
            .collect::<Result<Vec<_>>>()?;
        Ok(runs(&keys, 2)?.len() == 2)
    }

    /// The batches with a column more for each call, and the memory of all that.
    fn attend(&self, whole: Whole, cancelled: &AtomicBool) -> Result<(Vec<RecordBatch>, Budget)> {
        let Whole { pieces, held } = whole;
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(self.attend_piece(piece, &held, cancelled)?);
        }
        Ok((all, held))
    }

    fn attend_piece(
        &self,
        batches: Vec<RecordBatch>,
        held: &Budget,
        cancelled: &AtomicBool,
    ) -> Result<Vec<RecordBatch>> {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let keys = gathered(&self.partition_by, &batches)?;
        let partitions = runs(&keys, rows)?;
        let order: Vec<_> = self
            .order_by
            .iter()
            .map(|order| Arc::clone(&order.expr))
            .collect();
        let order = gathered(&order, &batches)?;
        let options: Vec<SortOptions> = self.order_by.iter().map(|order| order.options).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.calls.len());
        for call in &*self.calls {
            let frames = frames(&call.frame, &order, &options, &partitions)?;
            let lists = gathered(&call.arguments, &batches)?;
            let [query, key, value] = lists.as_slice() else {
                return datafusion::common::internal_err!("{NAME} has three arguments");
            };
            // The gathered lists, and the kernel's result beside the array that is made of it.
            let gathered: usize = lists.iter().map(|list| array_bytes(list)).sum();
            let result = 3 * array_bytes(value) / value.len().max(1) * rows;
            held.reserve("the vectors of a partition", gathered + result)
                .map_err(|error| resources_exhausted(NAME, &error))?;
            let site = Site {
                function: NAME,
                batches: batches.clone(),
                streamed: true,
                ..Site::default()
            };
            let lists = Lists {
                query: Arc::clone(query),
                key: Arc::clone(key),
                value: Arc::clone(value),
            };
            columns.push(call.request.attend(&lists, &frames, &site, cancelled)?);
            held.release(gathered + result / 3 * 2);
        }
        let mut start = 0;
        let batches = batches.into_iter().map(|batch| {
            let rows = batch.num_rows();
            let own = batch.columns().iter().zip(self.schema.fields());
            let own = own.map(|(column, field)| {
                if column.data_type() != field.data_type() && column.null_count() > 0 {
                    // Made anew, with room where they are NULL.
                    held.reserve("vectors of a fixed size", array_bytes(column))
                        .map_err(|error| resources_exhausted(NAME, &error))?;
                }
                restored(Arc::clone(column), field.data_type())
            });
            let mut all = own.collect::<Result<Vec<_>>>()?;
            all.extend(columns.iter().map(|column| column.slice(start, rows)));
            start += rows;
            Ok(RecordBatch::try_new(Arc::clone(&self.schema), all)?)
        });
        batches.collect()
    }
}

/// Expressions over all batches, a column each. One batch is not copied.
fn gathered(
    expressions: &[Arc<dyn PhysicalExpr>],
    batches: &[RecordBatch],
) -> Result<Vec<ArrayRef>> {
    let gather = |expression: &Arc<dyn PhysicalExpr>| {
        let parts = batches
            .iter()
            .map(|batch| expression.evaluate(batch)?.into_array(batch.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        if let [only] = parts.as_slice() {
            return Ok(Arc::clone(only));
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(concat(&parts)?)
    };
    expressions.iter().map(gather).collect()
}

/// Rows with equal keys that follow one another.
fn runs(keys: &[ArrayRef], rows: usize) -> Result<Vec<Range<usize>>> {
    if keys.is_empty() {
        return Ok(std::iter::once(0..rows).collect());
    }
    Ok(partition(keys)?.ranges())
}
