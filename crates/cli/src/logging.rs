//! Log events go to stderr, without disturbing a progress bar.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use crate::job_args::LogFormat;
use crate::progress::FitProgress;

/// Warnings of ours by default, and only errors of the libraries below, whose warnings are for
/// their own developers; Delta Lake's says what it also returns. `LAKEFOLD_LOG`, else `RUST_LOG`, overrides.
pub(crate) fn start(quiet: bool, format: LogFormat, progress: &Arc<FitProgress>) {
    let ours = match (quiet, format) {
        (true, _) => "error",
        (false, LogFormat::Text) => "warn",
        // Whoever collects events wants to see the work, not only its failures.
        (false, LogFormat::Json) => "info",
    };
    let default = format!(
        "error,deltalake_core=off,lakefold={ours},lakefold_lake={ours},lakefold_functions={ours},lakefold_manifold={ours}"
    );
    let chosen = ["LAKEFOLD_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let filter = EnvFilter::new(chosen.unwrap_or(default));
    let progress = Arc::clone(progress);
    let writer = move || AboveProgress(Arc::clone(&progress));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // Fails only if logging was started before.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .without_time()
            .with_writer(writer)
            .try_init(),
        LogFormat::Json => builder.json().with_writer(writer).try_init(),
    };
}

struct AboveProgress(Arc<FitProgress>);

impl Write for AboveProgress {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
