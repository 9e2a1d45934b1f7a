//! From the arguments that every command takes to a session, and to its orderly end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lakefold::{Session, SessionBuilder, error_message};
use tokio::runtime::Runtime;

use crate::args::SessionArgs;
use crate::failure::Failure;
use crate::job_args::LogFormat;
use crate::logging;
use crate::progress::FitProgress;

/// How long an interrupted fit may take to notice before the process ends without it.
const CANCELLATION_GRACE: Duration = Duration::from_secs(3);

/// What a command starts with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// Stands beside the progress bar.
    pub(crate) name: &'static str,
    pub(crate) arguments: &'a SessionArgs,
    pub(crate) log_format: LogFormat,
}

impl<'a> Start<'a> {
    /// With logs for people.
    pub(crate) fn new(name: &'static str, arguments: &'a SessionArgs) -> Self {
        Self {
            name,
            arguments,
            log_format: LogFormat::Text,
        }
    }
}

/// The exit code of `work`, or why it could not start.
pub(crate) fn run(
    start: &Start<'_>,
    work: impl FnOnce(&Runtime, Session, Arc<FitProgress>) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let arguments = start.arguments;
    let progress = Arc::new(FitProgress::new(start.name, !arguments.quiet));
    logging::start(arguments.quiet, start.log_format, &progress);
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
