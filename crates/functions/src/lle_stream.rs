//! How `LleExec` runs: take in a group, fit it on a blocking thread, hand its batches on.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::vec;

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::RecordOutput;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SpillManager};
use futures::stream::{self, BoxStream, try_unfold};
use futures::{StreamExt, TryStreamExt};
use lakefold_manifold::Phase;

use crate::features::Site;
use crate::fit::Embedding;
use crate::fit_task::{CancelOnDrop, FitControl, FitTask, Quiet, blocking};
use crate::group::{Group, GroupMaker};
use crate::groups::{Groups, collect_whole};
use crate::lle_exec::{LleCall, LleExec};
use crate::lle_metrics::LleMetrics;
use crate::lle_model::LleModel;
use crate::memory::{Budget, resources_exhausted};
use crate::progress::Announced;
use crate::rows::RowStore;

/// The output of one partition.
pub(crate) fn embedding_stream(
    plan: &LleExec,
    partition: usize,
    context: &Arc<TaskContext>,
    metrics: LleMetrics,
) -> Result<SendableRecordBatchStream> {
    let name = format!("lle_embed[{partition}]");
    let maker = GroupMaker {
        calls: plan.calls().into(),
        budget: Arc::new(Budget::new(context.memory_pool(), &name)),
        spill: Arc::new(SpillManager::new(
            context.runtime_env(),
            metrics.spill.clone(),
            plan.input().schema(),
        )),
    };
    let source = if plan.partition_by().is_empty() {
        Source::Whole {
            input: Arc::clone(plan.input()),
            context: Arc::clone(context),
            maker,
        }
    } else {
        let input = plan.input().execute(partition, Arc::clone(context))?;
        let keys = plan.partition_by().to_vec();
        Source::Groups(Box::new(Groups::new(input, keys, maker)))
    };
    let run = Run {
        source,
        output: None,
        calls: plan.calls().into(),
        schema: plan.schema(),
        cancelled: CancelOnDrop(Arc::new(AtomicBool::new(false))),
        context: Arc::clone(context),
        metrics,
    };
    let batches = try_unfold(run, |mut run| async move {
        let batch = run.next().await?;
        Ok(batch.map(|batch| (batch, run)))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(
        plan.schema(),
        batches,
    )))
}

enum Source {
    Whole {
        input: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        maker: GroupMaker,
    },
    Groups(Box<Groups>),
    Done,
}

impl Source {
    async fn next(&mut self) -> Result<Option<Group>> {
        match self {
            Source::Groups(groups) => groups.next().await,
            Source::Whole { .. } => {
                let Source::Whole {
                    input,
                    context,
                    maker,
                } = std::mem::replace(self, Source::Done)
                else {
                    return Ok(None);
                };
                collect_whole(input, context, maker).await.map(Some)
            }
            Source::Done => Ok(None),
        }
    }
}

struct Run {
    source: Source,
    output: Option<Output>,
    calls: Arc<[LleCall]>,
    schema: SchemaRef,
    cancelled: CancelOnDrop,
    context: Arc<TaskContext>,
    metrics: LleMetrics,
}

/// A fitted group on its way out.
enum Output {
    /// Every row was in the fit.
    Fitted {
        batches: vec::IntoIter<RecordBatch>,
        embeddings: Vec<Embedding>,
        /// Given back when the last batch has left.
        _held: Arc<Budget>,
    },
    /// A sample was fitted, by which every row is placed.
    Placed {
        batches: BoxStream<'static, Result<RecordBatch>>,
        placement: Arc<Placement>,
        _held: Arc<Budget>,
    },
}

impl Run {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(output) = &mut self.output {
                if let Some(batch) = output.next(&self.schema).await? {
                    return Ok(Some(batch.record_output(&self.metrics.baseline)));
                }
                self.output = None;
            }
            match self.source.next().await? {
                Some(group) => self.output = Some(self.fit(group).await?),
                None => return Ok(None),
            }
        }
    }

    async fn fit(&mut self, mut group: Group) -> Result<Output> {
        match group.samples.take() {
            None => self.fit_all(group).await,
            Some(samples) => {
                let mut models = Vec::with_capacity(samples.len());
                for (index, sample) in samples.into_iter().enumerate() {
                    let (task, rows) = (self.task(index, &group), group.rows);
                    models.push(blocking(move || task.fit_sample(sample, rows)).await?);
                }
                let stores = group.stores.into_iter();
                let batches: Vec<_> = stores.map(RowStore::into_stream).collect();
                Ok(Output::Placed {
                    batches: stream::iter(batches).flatten().boxed(),
                    placement: Arc::new(Placement {
                        calls: Arc::clone(&self.calls),
                        models,
                        label: group.label,
                        cancelled: Quiet(Arc::clone(&self.cancelled.0)),
                        announced: Announced::new(&self.context, Phase::Projection, group.rows),
                    }),
                    _held: group.held,
                })
            }
        }
    }

    async fn fit_all(&mut self, group: Group) -> Result<Output> {
        let batches = group.stores.iter().flat_map(RowStore::memory);
        let batches: Vec<RecordBatch> = batches.cloned().collect();
        let mut embeddings = Vec::with_capacity(self.calls.len());
        for index in 0..self.calls.len() {
            let (task, batches) = (self.task(index, &group), batches.clone());
            let embedding = blocking(move || task.fit_all(batches)).await?;
            group
                .held
                .reserve("the embedding", embedding.bytes())
                .map_err(|error| resources_exhausted("lle_embed", &error))?;
            embeddings.push(embedding);
        }
        Ok(Output::Fitted {
            batches: batches.into_iter(),
            embeddings,
            _held: group.held,
        })
    }

    fn task(&self, index: usize, group: &Group) -> FitTask {
        FitTask {
            calls: Arc::clone(&self.calls),
            index,
            label: group.label.clone(),
            control: FitControl::new(&self.context, &group.held, &self.cancelled),
            metrics: self.metrics.clone(),
        }
    }
}

impl Output {
    async fn next(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let columns = match self {
            Output::Fitted {
                batches,
                embeddings,
                ..
            } => {
                let Some(batch) = batches.next() else {
                    return Ok(None);
                };
                let mut columns = batch.columns().to_vec();
                for embedding in embeddings {
                    columns.push(embedding.next_rows(batch.num_rows())?);
                }
                columns
            }
            Output::Placed {
                batches, placement, ..
            } => {
                let Some(batch) = batches.try_next().await? else {
                    return Ok(None);
                };
                let placement = Arc::clone(placement);
                blocking(move || placement.columns(&batch)).await?
            }
        };
        Ok(Some(RecordBatch::try_new(Arc::clone(schema), columns)?))
    }
}

/// What places the rows of one group.
struct Placement {
    calls: Arc<[LleCall]>,
    /// One a call; `None` where all rows are NULL.
    models: Vec<Option<LleModel>>,
    label: Option<String>,
    cancelled: Quiet,
    announced: Announced,
}

impl Placement {
    /// The columns of a batch, and one for each call.
    fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut columns = batch.columns().to_vec();
        for (call, model) in self.calls.iter().zip(&self.models) {
            let Some(model) = model else {
                let nulls = new_null_array(call.data_type(), batch.num_rows());
                columns.push(nulls);
                continue;
            };
            let lists = call
                .features
                .evaluate(batch)?
                .into_array(batch.num_rows())?;
            let site = Site {
                column: call.column(),
                partition: self.label.clone(),
                batches: vec![batch.clone()],
                streamed: true,
                ..Site::default()
            };
            let placed = model
                .typed
                .transform(&lists, call.data_type(), &site, &self.cancelled)?;
            columns.push(placed);
        }
        self.announced.add(batch.num_rows());
        Ok(columns)
    }
}
