//! What a job tells while it runs and when it is done.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// Whom to tell how a job goes. Calls come from several threads.
pub trait JobReporter: std::fmt::Debug + Send + Sync {
    /// What is to be done, before the first chunk.
    fn planned(&self, work: &Work);
    /// Rows read and computed since the last call.
    fn rows(&self, rows: usize);
    /// A chunk is visible and recorded.
    fn chunk(&self, file: &str, rows: usize, bytes: u64);
}

/// What a run has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Chunks to write.
    pub chunks: usize,
    /// Their rows.
    pub rows: usize,
    /// Bytes of input, as stored.
    pub bytes: usize,
    /// Chunks that were written before.
    pub skipped: usize,
}

/// How a job is watched and stopped.
#[derive(Debug, Clone)]
pub struct JobControl {
    stop: watch::Receiver<bool>,
    pub(crate) reporter: Option<Arc<dyn JobReporter>>,
}

/// Stops a job.
#[derive(Debug)]
pub struct JobStop(watch::Sender<bool>);

impl JobStop {
    /// Chunks that are being written are thrown away; those that are done stay.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl JobControl {
    /// A control and its switch.
    pub fn new(reporter: Option<Arc<dyn JobReporter>>) -> (Self, JobStop) {
        let (sender, stop) = watch::channel(false);
        (Self { stop, reporter }, JobStop(sender))
    }

    /// Ends when the job is to stop, else never.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left who could stop it.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct JobSummary {
    /// Whether everything is written: false for a run that was stopped.
    pub finished: bool,
    /// The output, as it was named.
    pub output: String,
    /// SHA-256 of models, by the names they were given.
    pub models: std::collections::BTreeMap<String, String>,
    /// Files of the input.
    pub files: usize,
    /// Chunks of the input.
    pub chunks: usize,
    /// Of these, those that this run wrote.
    pub chunks_written: usize,
    /// Those that were written before.
    pub chunks_skipped: usize,
    /// Rows written by this run.
    pub rows: usize,
    /// Of these, those that no model could take.
    pub invalid_rows: usize,
    /// Bytes of input that were read, as stored.
    pub bytes_read: usize,
    /// Bytes of output.
    pub bytes_written: u64,
    /// The version of the Delta Lake table that has everything; `None` for other outputs, and for a run
    /// that was stopped.
    pub table_version: Option<u64>,
    /// Chunks that were written at once.
    pub parallel: usize,
    /// Seconds by phase.
    pub seconds: Seconds,
    /// Rows of this run by the seconds of `run`.
    pub rows_per_second: f64,
    /// The most memory the process had, in bytes; 0 where the system does not say.
    pub peak_memory_bytes: usize,
}

/// Seconds of a run. `compute` and `write` are sums over chunks written at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Fitting, where the job fits.
    pub fit: f64,
    /// Listing, footers, planning, and looking at what is written.
    pub plan: f64,
    /// From the first chunk to the last.
    pub run: f64,
    /// Reading and computing.
    pub compute: f64,
    /// Encoding and writing.
    pub write: f64,
    /// Making visible and recording.
    pub commit: f64,
    /// All of it.
    pub total: f64,
}

impl JobSummary {
    /// As Prometheus's text format has it, for the textfile collector.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, help: &str, value: f64| {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "# HELP lakefold_job_{name} {help}\n# TYPE lakefold_job_{name} gauge\nlakefold_job_{name} {value}"
            );
        };
        metric(
            "finished",
            "1 if everything is written",
            f64::from(u8::from(self.finished)),
        );
        metric("rows", "Rows written by the run", self.rows as f64);
        metric(
            "invalid_rows",
            "Rows that no model could take",
            self.invalid_rows as f64,
        );
        metric(
            "chunks_written",
            "Chunks written by the run",
            self.chunks_written as f64,
        );
        metric(
            "chunks_skipped",
            "Chunks written by earlier runs",
            self.chunks_skipped as f64,
        );
        metric("bytes_read", "Bytes of input read", self.bytes_read as f64);
        metric(
            "bytes_written",
            "Bytes of output written",
            self.bytes_written as f64,
        );
        metric(
            "peak_memory_bytes",
            "The most memory the process had",
            self.peak_memory_bytes as f64,
        );
        let seconds = self.seconds;
        for (phase, value) in [
            ("fit", seconds.fit),
            ("plan", seconds.plan),
            ("run", seconds.run),
            ("total", seconds.total),
        ] {
            metric(&format!("{phase}_seconds"), "Seconds of the phase", value);
        }
        text
    }
}

/// The most memory that this process had, in bytes; 0 where the system does not say.
pub fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kibibytes.unwrap_or(0) * 1024
}
