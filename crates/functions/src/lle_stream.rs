//! How `LleExec` runs: hold a group, fit it on a blocking thread, hand its batches on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::RecordOutput;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::try_unfold;
use lakefold_manifold::{Control, Diagnostics, Phase, ReserveError};
use tracing::info;

use crate::features::{Features, Site, measure};
use crate::fit::{Embedding, copy_features, fit_features};
use crate::groups::{Group, Groups, collect_whole};
use crate::lle_exec::{LleCall, LleExec};
use crate::lle_metrics::LleMetrics;
use crate::memory::{Budget, array_bytes, resources_exhausted};
use crate::progress::{FitReporter, FitReporterHandle};

/// The output of one partition.
pub(crate) fn embedding_stream(
    plan: &LleExec,
    partition: usize,
    context: &Arc<TaskContext>,
    metrics: LleMetrics,
) -> Result<SendableRecordBatchStream> {
    let budget = Budget::new(context.memory_pool(), &format!("lle_embed[{partition}]"));
    let source = if plan.partition_by().is_empty() {
        Source::Whole {
            input: Arc::clone(plan.input()),
            context: Arc::clone(context),
            held: Arc::new(budget),
        }
    } else {
        let input = plan.input().execute(partition, Arc::clone(context))?;
        Source::Groups(Box::new(Groups::new(
            input,
            plan.partition_by().to_vec(),
            budget,
        )))
    };
    let reporter = context
        .session_config()
        .get_extension::<FitReporterHandle>();
    let run = Run {
        source,
        output: None,
        calls: plan.calls().into(),
        schema: plan.schema(),
        cancelled: CancelOnDrop(Arc::new(AtomicBool::new(false))),
        reporter: reporter.map(|handle| Arc::clone(&handle.0)),
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

/// Tells a fit on another thread that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Source {
    Whole {
        input: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        held: Arc<Budget>,
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
                    held,
                } = std::mem::replace(self, Source::Done)
                else {
                    return Ok(None);
                };
                collect_whole(input, context, held).await.map(Some)
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
    reporter: Option<Arc<dyn FitReporter>>,
    metrics: LleMetrics,
}

/// A fitted group on its way out.
struct Output {
    batches: vec::IntoIter<RecordBatch>,
    embeddings: Vec<Embedding>,
    /// Given back when the last batch has left.
    _held: Arc<Budget>,
}

impl Run {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(output) = &mut self.output {
                if let Some(batch) = output.next(&self.schema)? {
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

    async fn fit(&mut self, group: Group) -> Result<Output> {
        let mut embeddings = Vec::with_capacity(self.calls.len());
        for index in 0..self.calls.len() {
            let task = FitTask {
                batches: group.batches.clone(),
                calls: Arc::clone(&self.calls),
                index,
                label: group.label.clone(),
                control: FitControl {
                    budget: group.held.sibling(),
                    cancelled: Arc::clone(&self.cancelled.0),
                    reporter: self.reporter.clone(),
                },
                metrics: self.metrics.clone(),
            };
            let embedding = SpawnedTask::spawn_blocking(move || task.run())
                .join_unwind()
                .await
                .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            group
                .held
                .reserve("the embedding", embedding.bytes())
                .map_err(|error| resources_exhausted("lle_embed", &error))?;
            embeddings.push(embedding);
        }
        Ok(Output {
            batches: group.batches.into_iter(),
            embeddings,
            _held: group.held,
        })
    }
}

impl Output {
    fn next(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batches.next() else {
            return Ok(None);
        };
        let mut columns = batch.columns().to_vec();
        for embedding in &mut self.embeddings {
            columns.push(embedding.next_rows(batch.num_rows())?);
        }
        Ok(Some(RecordBatch::try_new(Arc::clone(schema), columns)?))
    }
}

/// One call on one group, to be run on a blocking thread.
struct FitTask {
    batches: Vec<RecordBatch>,
    calls: Arc<[LleCall]>,
    index: usize,
    label: Option<String>,
    control: FitControl,
    metrics: LleMetrics,
}

impl FitTask {
    fn run(self) -> Result<Embedding> {
        let _timer = self.metrics.baseline.elapsed_compute().timer();
        let call = &self.calls[self.index];
        let site = Site {
            column: call.column(),
            partition: self.label.clone(),
            batches: self.batches.clone(),
        };
        let features = self.features(call, &site)?;
        let rows = features.present.count_set_bits();
        let reporter = self.control.reporter.as_deref().filter(|_| rows > 0);
        if let Some(reporter) = reporter {
            reporter.started(rows);
        }
        let embedding = fit_features(features, &call.lle, &site, &self.control);
        match (&embedding, reporter) {
            (Ok(embedding), reporter) => {
                if let Some(fit) = embedding.fit() {
                    self.metrics.record(&fit.diagnostics);
                    log(&site, &fit.diagnostics);
                    if let Some(reporter) = reporter {
                        reporter.finished(&fit.diagnostics);
                    }
                }
            }
            (Err(_), Some(reporter)) => reporter.failed(),
            (Err(_), None) => {}
        }
        embedding
    }

    fn features(&self, call: &LleCall, site: &Site) -> Result<Features> {
        let lists = self
            .batches
            .iter()
            .map(|batch| call.features.evaluate(batch)?.into_array(batch.num_rows()))
            .collect::<Result<Vec<ArrayRef>>>()?;
        // A plain column is part of the batches held already; anything else was computed just now.
        let computed = if call.features.is::<Column>() {
            0
        } else {
            lists.iter().map(|list| array_bytes(list.as_ref())).sum()
        };
        self.control
            .reserve("computing the features", computed)
            .map_err(|error| resources_exhausted(&site.to_string(), &error))?;
        let extent = measure(&lists, site)?;
        let features = copy_features(&lists, extent, call.float, site, &self.control)?;
        drop(lists);
        self.control.release(computed);
        Ok(features)
    }
}

fn log(site: &Site, diagnostics: &Diagnostics) {
    info!(
        column = site.column,
        partition = site.partition,
        rows = diagnostics.rows,
        distinct_rows = diagnostics.distinct_rows,
        dimensions = diagnostics.dimensions,
        solver = diagnostics.solver.name(),
        seconds = diagnostics
            .seconds
            .iter()
            .map(|(_, seconds)| seconds)
            .sum::<f64>(),
        peak_reserved_bytes = diagnostics.peak_reserved_bytes,
        "lle_embed fitted"
    );
    if diagnostics.bridged_edges > 0 {
        info!(
            column = site.column,
            partition = site.partition,
            closed_components = diagnostics.closed_components,
            bridge_rounds = diagnostics.bridge_rounds,
            bridged_edges = diagnostics.bridged_edges,
            "lle_embed joined closed components of the neighbour graph to their surroundings"
        );
    }
}

/// The kernel's line to the query.
struct FitControl {
    budget: Budget,
    cancelled: Arc<AtomicBool>,
    reporter: Option<Arc<dyn FitReporter>>,
}

impl Control for FitControl {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        if let Some(reporter) = &self.reporter {
            reporter.progress(phase, done, total);
        }
    }

    fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
        self.budget.reserve(purpose, bytes)
    }

    fn release(&self, bytes: usize) {
        self.budget.release(bytes);
    }
}
