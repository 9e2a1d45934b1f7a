//! A progress bar for jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lakefold::{JobReporter, Work};

use crate::progress::FitProgress;

/// Draws the bar where [`FitProgress`] draws that of a fit.
#[derive(Debug)]
pub(crate) struct JobProgress {
    place: Arc<FitProgress>,
    chunks: AtomicUsize,
    done: AtomicUsize,
}

impl JobProgress {
    pub(crate) fn new(place: Arc<FitProgress>) -> Self {
        Self {
            place,
            chunks: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        }
    }
}

impl JobReporter for JobProgress {
    fn planned(&self, work: &Work) {
        self.chunks.store(work.chunks, Ordering::Relaxed);
        let rows = work.rows as u64;
        // Bytes of input go with rows.
        let bytes = work.bytes as f64;
        self.place.show(|| {
            let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
            let template =
                "{spinner} {msg:<14} {bar:24} {human_pos}/{human_len} rows  {done_bytes}  {per_sec:>12}  {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.with_key(
                    "done_bytes",
                    move |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                        let read = bytes * f64::from(state.fraction());
                        // Only a bar: what cannot be written is not shown.
                        let _ = write!(out, "{}", indicatif::HumanBytes(read as u64));
                    },
                ));
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
    }

    fn rows(&self, rows: usize) {
        self.place.with_bar(|bar| bar.inc(rows as u64));
    }

    fn chunk(&self, _file: &str, _rows: usize, _bytes: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let chunks = self.chunks.load(Ordering::Relaxed);
        self.place
            .with_bar(|bar| bar.set_message(format!("{done}/{chunks} chunks")));
    }
}
