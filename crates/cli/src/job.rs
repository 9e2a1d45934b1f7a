//! `lakefold transform`, `lakefold embed` and `lakefold run`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use lakefold::{
    FitOptions, FitValue, Job, JobControl, JobStop, JobSummary, OnInvalid, Session, Task,
    error_message, format_bytes,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{FitParameters, SessionArgs};
use crate::failure::Failure;
use crate::fit;
use crate::job_args::{
    EmbedArgs, JobArgs, JobRunArgs, OnInvalidArg, Places, RunArgs, TransformArgs,
};
use crate::job_progress::JobProgress;
use crate::numbers::{counted, grouped};
use crate::progress::{FitProgress, report_fits};
use crate::startup::{self, Start};
use crate::stderr::say;

/// `lakefold transform`.
pub(crate) fn transform(arguments: &TransformArgs) -> Result<ExitCode, Failure> {
    let mut job = job(Task::Transform, &arguments.places, &arguments.job);
    job.column.clone_from(&arguments.column);
    job.model.clone_from(&arguments.model);
    job.select.clone_from(&arguments.select);
    start("transform", job, &arguments.run, &arguments.session)
}

/// `lakefold embed`.
pub(crate) fn embed(arguments: &EmbedArgs) -> Result<ExitCode, Failure> {
    let mut job = job(Task::Embed, &arguments.places, &arguments.job);
    job.column = Some(arguments.column.clone());
    job.model.clone_from(&arguments.model);
    job.fit = fit_options(&arguments.parameters);
    start("embed", job, &arguments.run, &arguments.session)
}

/// `lakefold run`.
pub(crate) fn run(arguments: &RunArgs) -> Result<ExitCode, Failure> {
    let name = arguments.file.display().to_string();
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|error| Failure::Failed(format!("cannot read '{name}': {error}")))?;
    let job =
        Job::from_toml(&text, &name).map_err(|error| Failure::Usage(error_message(&error)))?;
    let mut session = arguments.session.clone();
    session.memory_limit = session.memory_limit.or(job.memory_limit.map(Into::into));
    session.threads = session.threads.or(job.threads);
    start("run", job, &arguments.run, &session)
}

fn job(task: Task, places: &Places, arguments: &JobArgs) -> Job {
    let mut job = Job::new(task, &places.input, &places.output);
    job.input_version = places.input_version;
    job.format = arguments.format;
    job.output_column.clone_from(&arguments.output_column);
    job.filter.clone_from(&arguments.filter);
    job.on_invalid = match arguments.on_invalid {
        OnInvalidArg::Error => OnInvalid::Error,
        OnInvalidArg::Null => OnInvalid::Null,
    };
    job.chunk_rows = arguments.chunk_rows;
    job.chunk_bytes = arguments.chunk_bytes;
    job.row_group_rows = arguments.row_group_rows;
    job.row_group_bytes = arguments.row_group_bytes;
    job.compression = arguments.compression.clone();
    job.encoding = arguments.encoding.iter().cloned().collect();
    job.options = arguments.options.iter().cloned().collect();
    job
}

fn fit_options(parameters: &FitParameters) -> FitOptions {
    fit::options(parameters)
        .into_iter()
        .filter_map(|(name, value)| {
            let value = value?;
            let value = match (value.parse(), value.parse()) {
                (Ok(count), _) => FitValue::Count(count),
                (_, Ok(number)) => FitValue::Number(number),
                _ => FitValue::Name(value.trim_matches('\'').to_owned()),
            };
            Some((name.to_owned(), value))
        })
        .collect()
}

fn start(
    name: &'static str,
    mut job: Job,
    run: &JobRunArgs,
    session: &SessionArgs,
) -> Result<ExitCode, Failure> {
    job.overwrite |= run.overwrite;
    job.incremental |= run.incremental;
    job.verify |= run.verify;
    job.summary = run.summary.clone().or(job.summary);
    job.metrics_file = run.metrics_file.clone().or(job.metrics_file);
    let log_format = run.log_format;
    let dry_run = run.dry_run;
    let arguments = session.clone();
    let start = Start {
        name,
        arguments: session,
        log_format,
    };
    startup::run(&start, move |runtime, session, progress| {
        if dry_run {
            return runtime.block_on(describe(&session, &job));
        }
        runtime.block_on(execute(&session, &job, &arguments, progress))
    })
}

/// `--dry-run`.
async fn describe(session: &Session, job: &Job) -> Result<(), Failure> {
    let plan = session
        .plan_job(job)
        .await
        .map_err(|error| failed(&error))?;
    let text = if job.summary.as_deref() == Some("json") {
        json(&plan)?
    } else {
        plan.to_string()
    };
    print(&text)
}

async fn execute(
    session: &Session,
    job: &Job,
    arguments: &SessionArgs,
    progress: Arc<FitProgress>,
) -> Result<(), Failure> {
    let reporter = Arc::new(JobProgress::new(Arc::clone(&progress)));
    let (control, stop) = JobControl::new(Some(reporter));
    let signals = tokio::spawn(watch_signals(stop));
    let result = session.run_job(job, &control).await;
    let fits = progress.take();
    let summary = result.map_err(|error| failed(&error))?;
    report_fits(&fits, arguments.is_verbose(), arguments.quiet);
    report(job, &summary, arguments.quiet)?;
    if summary.finished {
        return Ok(());
    }
    let signal = signals
        .await
        .unwrap_or(SignalKind::interrupt().as_raw_value());
    Err(Failure::Stopped {
        message: format!(
            "stopped: {} of {} of '{}' are written; the same command goes on from there",
            grouped(summary.chunks_written + summary.chunks_skipped),
            counted(summary.chunks, "chunk"),
            job.output
        ),
        signal,
    })
}

/// Stops the job at the first SIGINT or SIGTERM, and tells which. The second SIGINT ends the process.
async fn watch_signals(stop: JobStop) -> i32 {
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let (Ok(mut interrupted), Ok(mut terminated)) = (signal(interrupt), signal(terminate)) else {
        tracing::warn!("signals cannot be caught: a job that is stopped leaves what is aside");
        return std::future::pending().await;
    };
    let caught = tokio::select! {
        _ = interrupted.recv() => interrupt.as_raw_value(),
        _ = terminated.recv() => terminate.as_raw_value(),
    };
    stop.stop();
    tokio::spawn(async move {
        interrupted.recv().await;
        // What is aside stays for the next run to remove.
        std::process::exit(128 + interrupt.as_raw_value());
    });
    caught
}

fn report(job: &Job, summary: &JobSummary, quiet: bool) -> Result<(), Failure> {
    if !quiet {
        say(&summary_line(summary));
    }
    if let Some(path) = &job.metrics_file {
        write_file(path, &summary.prometheus())?;
    }
    match job.summary.as_deref() {
        None => Ok(()),
        Some("json") => print(&json(summary)?),
        Some(path) => write_file(path, &json(summary)?),
    }
}

fn summary_line(summary: &JobSummary) -> String {
    let mut line = format!(
        "{} in {} written to '{}' in {:.2} s, {} rows a second, peak memory {}",
        counted(summary.rows, "row"),
        counted(summary.chunks_written, "chunk"),
        summary.output,
        summary.seconds.total,
        grouped(summary.rows_per_second as usize),
        format_bytes(summary.peak_memory_bytes)
    );
    if summary.chunks_skipped > 0 {
        let verb = if summary.chunks_skipped == 1 {
            "was"
        } else {
            "were"
        };
        line = format!(
            "{line}; {} {verb} written before",
            counted(summary.chunks_skipped, "chunk")
        );
    }
    if let Some(version) = summary.table_version {
        line = format!("{line}; version {version} of the Delta Lake table has everything");
    }
    if summary.invalid_rows > 0 {
        line = format!(
            "{line}; {} with invalid vectors got NULL",
            counted(summary.invalid_rows, "row")
        );
    }
    line
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(format!("{text}\n"))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Whole or not at all: whoever watches the file never reads half of it.
fn write_file(path: &str, text: &str) -> Result<(), Failure> {
    let aside = format!("{path}.new");
    std::fs::write(&aside, text)
        .and_then(|()| std::fs::rename(&aside, path))
        .map_err(|error| Failure::Failed(format!("cannot write '{path}': {error}")))
}

fn failed(error: &datafusion::error::DataFusionError) -> Failure {
    Failure::Failed(error_message(error))
}
