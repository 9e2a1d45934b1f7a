//! One call on one group, on a blocking thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use lakefold_manifold::{Control, Diagnostics, ManifoldError, Phase, ReserveError};
use tracing::info;

use crate::features::{Features, Site, measure};
use crate::fit::{Embedding, copy_features, fit_features};
use crate::lle_exec::LleCall;
use crate::lle_metrics::LleMetrics;
use crate::lle_model::LleModel;
use crate::memory::{Budget, array_bytes, resources_exhausted};
use crate::progress::{FitReporter, FitReporterHandle};
use crate::sampling::FeatureSample;

/// What a fit needs beside its rows.
pub(crate) struct FitTask {
    pub(crate) calls: Arc<[LleCall]>,
    /// Which of the calls.
    pub(crate) index: usize,
    pub(crate) label: Option<String>,
    pub(crate) control: FitControl,
    pub(crate) metrics: LleMetrics,
}

impl FitTask {
    /// Fits all rows and keeps their embedding.
    pub(crate) fn fit_all(self, batches: Vec<RecordBatch>) -> Result<Embedding> {
        let _timer = self.metrics.baseline.elapsed_compute().timer();
        let call = &self.calls[self.index];
        let site = Site {
            column: call.column(),
            partition: self.label.clone(),
            batches,
            ..Site::default()
        };
        let features = self.features(call, &site)?;
        let rows = features.present.count_set_bits();
        let reporter = self.control.reporter.as_deref().filter(|_| rows > 0);
        if let Some(reporter) = reporter {
            reporter.started(rows);
        }
        let embedding = fit_features(features, &call.lle, call.data_type(), &site, &self.control);
        let found = embedding.as_ref().ok().and_then(Embedding::fit);
        self.report(
            &site,
            embedding.is_ok(),
            found.map(|fit| &fit.diagnostics),
            reporter,
        );
        embedding
    }

    /// Fits a sample and keeps what places any row; `None` where all rows were NULL.
    pub(crate) fn fit_sample(self, sample: FeatureSample, rows: usize) -> Result<Option<LleModel>> {
        let _timer = self.metrics.baseline.elapsed_compute().timer();
        let call = &self.calls[self.index];
        let site = Site {
            column: call.column(),
            partition: self.label.clone(),
            ..Site::default()
        };
        let reporter = self.control.reporter.as_deref();
        if let Some(reporter) = reporter {
            reporter.started(rows);
        }
        let model = sample.fit(&call.lle, None, &self.control);
        let found = model.as_ref().ok().and_then(Option::as_ref);
        self.report(
            &site,
            model.is_ok(),
            found.map(|model| &model.diagnostics),
            reporter,
        );
        model.map_err(|error| fit_failed(&error, &site, rows))
    }

    fn report(
        &self,
        site: &Site,
        succeeded: bool,
        found: Option<&Diagnostics>,
        reporter: Option<&dyn FitReporter>,
    ) {
        if let Some(diagnostics) = found {
            self.metrics.record(diagnostics);
            log(site, diagnostics);
        }
        match (reporter, found) {
            (Some(reporter), Some(diagnostics)) => reporter.finished(diagnostics),
            (Some(reporter), None) => {
                // Nothing to fit is no failure, but it ends what was started.
                debug_assert!(!succeeded || found.is_none());
                reporter.ended();
            }
            (None, _) => {}
        }
    }

    fn features(&self, call: &LleCall, site: &Site) -> Result<Features<'static>> {
        let lists = site
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

/// The error of a fit to a sample of `rows` rows.
pub(crate) fn fit_failed(error: &ManifoldError, site: &Site, rows: usize) -> DataFusionError {
    if let ManifoldError::Memory(refusal) = error {
        resources_exhausted(&format!("{site} on a sample of {rows} rows"), refusal)
    } else {
        exec_datafusion_err!("{site}: {error}")
    }
}

/// Runs `work` off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    SpawnedTask::spawn_blocking(work)
        .join_unwind()
        .await
        .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
}

/// Tells a fit on another thread that nobody waits for it any more.
pub(crate) struct CancelOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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
        landmarks = diagnostics.landmarks,
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
pub(crate) struct FitControl {
    pub(crate) budget: Budget,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) reporter: Option<Arc<dyn FitReporter>>,
}

impl FitControl {
    /// Of a query: memory from `budget`'s consumer, progress to the session's reporter.
    pub(crate) fn new(context: &TaskContext, budget: &Budget, cancelled: &CancelOnDrop) -> Self {
        let reporter = context
            .session_config()
            .get_extension::<FitReporterHandle>();
        Self {
            budget: budget.sibling(),
            cancelled: Arc::clone(&cancelled.0),
            reporter: reporter.map(|handle| Arc::clone(&handle.0)),
        }
    }
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

/// Stops when the query does, and reports nothing: for work that is reported as part of something
/// larger.
pub(crate) struct Quiet(pub(crate) Arc<AtomicBool>);

impl Control for Quiet {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
