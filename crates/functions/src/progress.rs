//! Progress of fits, for whoever draws it.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::execution::TaskContext;
use lakefold_manifold::{Diagnostics, Phase};

/// Told how the fits of a query go. Methods are called from worker threads and must be quick; fits of
/// several partitions may run at the same time.
///
/// Hand it to a session with [`FitReporterHandle`].
pub trait FitReporter: Send + Sync + Debug {
    /// A fit of `rows` rows begins.
    fn started(&self, rows: usize);
    /// `done` of `total` units of `phase`; the last call of a phase has `done == total`. Where nobody knows
    /// how much there is to do, `total` is 0.
    fn progress(&self, phase: Phase, done: u64, total: u64);
    /// The fit that ended.
    fn finished(&self, diagnostics: &Diagnostics);
    /// The fit failed, was cancelled, or was something else that takes time (a search, a measurement), which
    /// has no diagnostics.
    fn ended(&self);
}

/// Carries a [`FitReporter`] in a session's configuration:
/// `SessionConfig::new().with_extension(Arc::new(FitReporterHandle(reporter)))`.
#[derive(Debug, Clone)]
pub struct FitReporterHandle(pub Arc<dyn FitReporter>);

/// Work on many rows that is no fit: announced when made, ended when dropped.
pub(crate) struct Announced {
    reporter: Option<Arc<dyn FitReporter>>,
    phase: Phase,
    /// 0 where it is not known.
    total: u64,
    done: AtomicU64,
}

impl Announced {
    pub(crate) fn new(context: &TaskContext, phase: Phase, total: usize) -> Self {
        let reporter = context
            .session_config()
            .get_extension::<FitReporterHandle>()
            .map(|handle| Arc::clone(&handle.0));
        if let Some(reporter) = &reporter {
            reporter.started(total);
        }
        Self {
            reporter,
            phase,
            total: total as u64,
            done: AtomicU64::new(0),
        }
    }

    /// Another so many rows are done.
    pub(crate) fn add(&self, rows: usize) {
        let done = self.done.fetch_add(rows as u64, Ordering::Relaxed) + rows as u64;
        self.tell(done);
    }

    /// Of the rows that are worked on now, so many are done: they will be added later.
    pub(crate) fn within(&self, rows: u64) {
        self.tell(self.done.load(Ordering::Relaxed) + rows);
    }

    /// Of a phase that comes before the rows are worked on.
    pub(crate) fn pass(&self, phase: Phase, done: u64, total: u64) {
        if let Some(reporter) = &self.reporter {
            reporter.progress(phase, done, total);
        }
    }

    fn tell(&self, done: u64) {
        if let Some(reporter) = &self.reporter {
            reporter.progress(self.phase, done, self.total);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(reporter) = &self.reporter {
            reporter.ended();
        }
    }
}
