//! From the arguments that every command takes to a session, and to its orderly end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lakefold::{Session, SessionBuilder, error_message};
use tokio::runtime::Runtime;

use crate::args::SessionArgs;
use crate::failure::Failure;
use crate::logging;
use crate::progress::FitProgress;

/// How long an interrupted fit may take to notice before the process ends without it.
const CANCELLATION_GRACE: Duration = Duration::from_secs(3);

/// The exit code of `work`, or why it could not start. `name` stands beside its progress bar.
pub(crate) fn run(
    name: &'static str,
    arguments: &SessionArgs,
    work: impl FnOnce(&Runtime, Session, Arc<FitProgress>) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let progress = Arc::new(FitProgress::new(name, !arguments.quiet));
    logging::start(arguments.quiet, &progress);
    let mut builder = SessionBuilder::new().reporter(Arc::clone(&progress) as _);
    if let Some(limit) = arguments.memory_limit {
        builder = builder.memory_limit(limit.bytes());
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if let Some(threads) = arguments.threads {
        builder = builder.threads(threads.get());
        runtime.worker_threads(threads.get());
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()
            .map_err(|error| Failure::Failed(error.to_string()))?;
    }
    let runtime = runtime
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let session = builder
        .build()
        .map_err(|error| Failure::Failed(error_message(&error)))?;
    let result = work(&runtime, session, progress);
    // Before the wait below, so that Ctrl-C is answered at once.
    let code = result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS);
    runtime.shutdown_timeout(CANCELLATION_GRACE);
    Ok(code)
}
