//! Progress of fits, for whoever draws it.

use std::fmt::Debug;
use std::sync::Arc;

use lakefold_manifold::{Diagnostics, Phase};

/// Told how the fits of a query go. Methods are called from worker threads and must be quick; fits of
/// several partitions may run at the same time.
///
/// Hand it to a session with [`FitReporterHandle`].
pub trait FitReporter: Send + Sync + Debug {
    /// A fit of `rows` rows begins.
    fn started(&self, rows: usize);
    /// `done` of `total` units of `phase`; the last call of a phase has `done == total`.
    fn progress(&self, phase: Phase, done: u64, total: u64);
    /// The fit that ended.
    fn finished(&self, diagnostics: &Diagnostics);
    /// The fit failed, was cancelled, or was no fit but a measurement, which has no diagnostics.
    fn failed(&self);
}

/// Carries a [`FitReporter`] in a session's configuration:
/// `SessionConfig::new().with_extension(Arc::new(FitReporterHandle(reporter)))`.
#[derive(Debug, Clone)]
pub struct FitReporterHandle(pub Arc<dyn FitReporter>);
