//! How a long computation talks to its caller: progress, cancellation and memory.

/// The phases of a fit, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Trying parameters on a sample.
    Choice,
    /// Checking values, sorting rows and merging duplicates.
    Deduplicate,
    /// Exact nearest neighbours.
    Neighbors,
    /// Inserting rows into a neighbour index.
    Index,
    /// Looking for rows that the index does not find, and mending it.
    Audit,
    /// Closed components of the neighbour graph, and the bridges between them.
    Components,
    /// The weights of the local problems.
    Weights,
    /// The rows' barycentric coordinates in terms of landmarks.
    Projection,
    /// Fill-reducing order and symbolic factorisation.
    Order,
    /// Numeric factorisation, or the reduced problem of the landmarks.
    Factorize,
    /// The eigenvalue iteration.
    Eigen,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Phase; 11] = [
        Phase::Choice,
        Phase::Deduplicate,
        Phase::Neighbors,
        Phase::Index,
        Phase::Audit,
        Phase::Components,
        Phase::Weights,
        Phase::Projection,
        Phase::Order,
        Phase::Factorize,
        Phase::Eigen,
    ];

    /// A short name for people and for logs.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Choice => "parameters",
            Phase::Deduplicate => "duplicates",
            Phase::Neighbors => "neighbours",
            Phase::Index => "index",
            Phase::Audit => "audit",
            Phase::Components => "components",
            Phase::Weights => "weights",
            Phase::Projection => "landmarks",
            Phase::Order => "ordering",
            Phase::Factorize => "factorisation",
            Phase::Eigen => "eigenvectors",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A refused reservation: `requested` bytes on top of `reserved` do not fit in `limit`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{purpose} needs about {} more (on top of {} already held), the limit is {}",
    bytes(*requested), bytes(*reserved), limit.map_or_else(|| "unknown".to_owned(), bytes)
)]
pub struct ReserveError {
    /// What the memory was for.
    pub purpose: String,
    /// Bytes asked for.
    pub requested: usize,
    /// Bytes held by this computation before.
    pub reserved: usize,
    /// The limit, where the caller knows it.
    pub limit: Option<usize>,
}

/// `bytes(1_610_612_736)` is `"1.5 GiB"`.
pub fn bytes(count: usize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// What the caller of a long computation provides. Every method has a default, so `&()` is a control
/// that never cancels, reports nothing and grants all memory.
///
/// Methods are called from worker threads and must be quick.
pub trait Control: Sync {
    /// Asked often; `true` makes the computation return [`crate::ManifoldError::Cancelled`] soon.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// `done` of `total` units of `phase`; the last call of a phase has `done == total`.
    fn progress(&self, _phase: Phase, _done: u64, _total: u64) {}

    /// Asked before a large allocation of `bytes` for `purpose`.
    ///
    /// # Errors
    /// When the memory is not to be had; the computation stops with that error.
    fn reserve(&self, _purpose: &str, _bytes: usize) -> Result<(), ReserveError> {
        Ok(())
    }

    /// Told when memory granted by [`Control::reserve`] is free again.
    fn release(&self, _bytes: usize) {}
}

impl Control for () {}

/// Fails once the caller wants to stop.
pub(crate) fn stop_if_cancelled(control: &dyn Control) -> crate::Result<()> {
    if control.is_cancelled() {
        Err(crate::ManifoldError::Cancelled)
    } else {
        Ok(())
    }
}

/// Counts finished units of a phase from many threads and passes them on.
pub(crate) struct Meter<'a> {
    control: &'a dyn Control,
    phase: Phase,
    done: std::sync::atomic::AtomicU64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(control: &'a dyn Control, phase: Phase, total: u64) -> Self {
        control.progress(phase, 0, total);
        Self {
            control,
            phase,
            done: 0.into(),
            total,
        }
    }

    /// Fails once the caller wants to stop.
    pub(crate) fn check(&self) -> crate::Result<()> {
        stop_if_cancelled(self.control)
    }

    pub(crate) fn add(&self, units: u64) {
        let before = self
            .done
            .fetch_add(units, std::sync::atomic::Ordering::Relaxed);
        self.control
            .progress(self.phase, (before + units).min(self.total), self.total);
    }
}

/// What a computation holds of its caller's memory. Everything is given back when it is dropped.
pub(crate) struct Budget<'a> {
    control: &'a dyn Control,
    held: std::cell::Cell<usize>,
    peak: std::cell::Cell<usize>,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(control: &'a dyn Control) -> Self {
        Self {
            control,
            held: 0.into(),
            peak: 0.into(),
        }
    }

    pub(crate) fn reserve(&self, purpose: &str, bytes: usize) -> Result<(), ReserveError> {
        self.control.reserve(purpose, bytes)?;
        self.held.set(self.held.get() + bytes);
        self.peak.set(self.peak.get().max(self.held.get()));
        Ok(())
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.control.release(bytes);
        self.held.set(self.held.get() - bytes);
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.get()
    }
}

impl Drop for Budget<'_> {
    fn drop(&mut self) {
        self.control.release(self.held.get());
    }
}

/// Seconds by phase.
pub(crate) struct Clock {
    last: std::cell::Cell<std::time::Instant>,
    seconds: std::cell::RefCell<Vec<(Phase, f64)>>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            last: std::time::Instant::now().into(),
            seconds: Vec::new().into(),
        }
    }

    /// Ends `phase`, which began when the one before it ended.
    pub(crate) fn lap(&self, phase: Phase) {
        let now = std::time::Instant::now();
        let seconds = (now - self.last.replace(now)).as_secs_f64();
        self.seconds.borrow_mut().push((phase, seconds));
    }

    pub(crate) fn into_seconds(self) -> Vec<(Phase, f64)> {
        self.seconds.into_inner()
    }
}
