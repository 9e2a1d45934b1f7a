//! The command line of Lakefold: results on stdout, everything else on stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. A reader that closes the pipe
//! early (`| head`) ends the program quietly with 0.

mod args;
mod failure;
mod logging;
mod memory_size;
mod numbers;
mod output;
mod progress;
mod repl;
mod repl_commands;
mod repl_helper;
mod runner;
mod scripts;
mod stderr;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use lakefold::{SessionBuilder, error_message};

use crate::args::{Cli, Command, SqlArgs};
use crate::failure::Failure;
use crate::progress::FitProgress;
use crate::runner::Runner;

/// How long an interrupted fit may take to notice before the process ends without it.
const CANCELLATION_GRACE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let Command::Sql(arguments) = cli.command;
    let Some((_, matches)) = matches.subcommand() else {
        return ExitCode::SUCCESS;
    };
    let scripts = scripts::read(&arguments, matches).map_err(Failure::Failed);
    match scripts.and_then(|scripts| sql(&arguments, scripts)) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// `lakefold sql`: the exit code of a run, or why it could not start.
fn sql(arguments: &SqlArgs, scripts: Option<Vec<scripts::Script>>) -> Result<ExitCode, Failure> {
    let progress = Arc::new(FitProgress::new(!arguments.quiet));
    logging::start(arguments, &progress);
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
    let mut runner = Runner::new(session, arguments, progress);
    let result = match scripts {
        Some(scripts) => runtime.block_on(runner.run_scripts(&scripts)),
        None => repl::run(&runtime, &mut runner),
    };
    // Before the wait below, so that Ctrl-C is answered at once.
    let code = result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS);
    drop(runner);
    runtime.shutdown_timeout(CANCELLATION_GRACE);
    Ok(code)
}
