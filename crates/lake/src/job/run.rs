//! Running a job.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::chunk_run::{ChunkRun, Done};
use super::chunks::Chunk;
use super::delta::DeltaOutput;
use super::description::JobDescription;
use super::fit::ensure_model;
use super::manifest::Manifest;
use super::output::{Output, OutputLock};
use super::plan::JobPlan;
use super::report::{JobControl, JobSummary, Seconds, Work, peak_memory};
use super::resume::reconcile;
use super::spec::{Format, Job, Task};
use super::stores::register_store;
use crate::Location;

/// What a job would do. Nothing is written, and of the input only footers are read.
///
/// # Errors
/// As [`run_job`], as far as it can be known before.
pub async fn plan_job(context: &SessionContext, job: &Job) -> Result<JobDescription> {
    job.check()?;
    register_stores(context, job)?;
    JobPlan::new(context, job).await?.description()
}

/// Runs a job until everything is written or it is stopped. What was written before by the same job is
/// kept, so that running a job again goes on where it stopped.
///
/// The session must have Lakefold's functions, if the job uses them; its memory pool and number of
/// partitions are the job's limits. It needs a runtime with several threads.
///
/// # Errors
/// For bad input, output that is another job's, and whatever fails. Chunks that were finished stay, and
/// no unfinished file is ever visible.
pub async fn run_job(
    context: &SessionContext,
    job: &Job,
    control: &JobControl,
) -> Result<JobSummary> {
    job.check()?;
    let start = Instant::now();
    register_stores(context, job)?;
    let output_location = Location::parse(&job.output)?;
    let output = Output::open(&output_location, &context.runtime_env())?;
    let mut delta = match job.format {
        Format::Parquet => None,
        Format::Delta => {
            let env = context.runtime_env();
            Some(DeltaOutput::open(&output_location, &output, &env)?)
        }
    };
    // Before anything is created: a job that cannot work leaves no trace.
    let mut plan = JobPlan::new(context, job).await?;
    let lock = output.lock().await?;
    let mut fit = 0.0;
    if job.task == Task::Embed {
        let fitting = Instant::now();
        match ensure_model(context, &plan, &output, control).await {
            Ok(Some(model)) => {
                let transform = Job {
                    task: Task::Transform,
                    model: Some(model),
                    fit: super::spec::FitOptions::new(),
                    ..job.clone()
                };
                plan = JobPlan::new(context, &transform).await?;
            }
            Ok(None) => {
                lock.release().await;
                return Ok(JobSummary {
                    output: job.output.clone(),
                    ..JobSummary::default()
                });
            }
            Err(error) => {
                lock.release().await;
                return Err(error);
            }
        }
        fit = fitting.elapsed().as_secs_f64();
    }
    let mut manifest = Manifest::default();
    let todo = match reconcile(&plan, &output, delta.as_mut(), &mut manifest).await {
        Ok(todo) => todo,
        Err(error) => {
            lock.release().await;
            return Err(error);
        }
    };
    let parallel = match plan.parallel(&todo) {
        Ok(parallel) => parallel,
        Err(error) => {
            lock.release().await;
            return Err(error);
        }
    };
    let seconds = Seconds {
        fit,
        plan: start.elapsed().as_secs_f64() - fit,
        ..Seconds::default()
    };
    let mut summary = JobSummary {
        output: job.output.clone(),
        models: plan
            .models
            .iter()
            .map(|m| (m.name.clone(), m.id.clone()))
            .collect(),
        files: plan.input.files.len(),
        chunks: plan.chunks.len(),
        chunks_skipped: plan.chunks.len() - todo.len(),
        parallel,
        seconds,
        ..JobSummary::default()
    };
    let result = write_chunks(
        plan,
        output,
        delta,
        lock,
        control,
        todo,
        &mut manifest,
        &mut summary,
    )
    .await;
    summary.seconds.total = start.elapsed().as_secs_f64();
    summary.peak_memory_bytes = peak_memory();
    result.map(|()| summary)
}

/// Stores of the input and of the output.
fn register_stores(context: &SessionContext, job: &Job) -> Result<()> {
    let places = [Some(&job.input), Some(&job.output), job.model.as_ref()];
    for text in places.into_iter().flatten() {
        register_store(context, &Location::parse(text)?, &job.options)?;
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is a part of the run, used up here"
)]
async fn write_chunks(
    plan: JobPlan,
    output: Output,
    delta: Option<DeltaOutput>,
    lock: OutputLock,
    control: &JobControl,
    todo: Vec<Chunk>,
    manifest: &mut Manifest,
    summary: &mut JobSummary,
) -> Result<()> {
    if let Some(reporter) = &control.reporter {
        reporter.planned(&Work {
            chunks: todo.len(),
            rows: todo.iter().map(|chunk| chunk.rows).sum(),
            bytes: todo.iter().map(|chunk| chunk.bytes).sum(),
            skipped: summary.chunks_skipped,
        });
    }
    let start = Instant::now();
    let run = Arc::new(ChunkRun {
        plan,
        output,
        lock,
        control: control.clone(),
        failed: tokio::sync::watch::Sender::new(false),
    });
    let planned = todo.len();
    let mut first_error = None;
    let starting = run.clone();
    // A chunk is begun when another ends, and none once something failed.
    let mut work = futures::stream::iter(todo)
        .take_while(|_| {
            let stop = starting.control.is_stopped() || *starting.failed.borrow();
            std::future::ready(!stop)
        })
        .map(|chunk| {
            let run = Arc::clone(&starting);
            tokio::spawn(async move { run.run(chunk).await })
        })
        .buffer_unordered(summary.parallel);
    while let Some(result) = work.next().await {
        let result = result
            .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))
            .flatten();
        match result {
            Ok(Some(done)) => add(summary, manifest, done),
            Ok(None) => {}
            Err(error) if first_error.is_none() => first_error = Some(error),
            Err(error) => tracing::debug!("another chunk failed as well: {error}"),
        }
    }
    drop(work);
    drop(starting);
    summary.seconds.run = start.elapsed().as_secs_f64();
    if summary.seconds.run > 0.0 {
        summary.rows_per_second = summary.rows as f64 / summary.seconds.run;
    }
    summary.finished = first_error.is_none() && summary.chunks_written == planned;
    let closed = if summary.finished {
        close(&run, delta, manifest, summary).await
    } else {
        Ok(())
    };
    let Some(run) = Arc::into_inner(run) else {
        return exec_err!("a chunk is still being written");
    };
    run.lock.release().await;
    match first_error {
        Some(error) => Err(error),
        None => closed,
    }
}

/// What is left when all chunks are written.
async fn close(
    run: &ChunkRun,
    delta: Option<DeltaOutput>,
    manifest: &mut Manifest,
    summary: &mut JobSummary,
) -> Result<()> {
    if let Some(mut delta) = delta {
        let start = Instant::now();
        let commit = delta.commit(&run.plan, &run.output, &run.lock, manifest);
        summary.table_version = commit.await?;
        summary.seconds.commit += start.elapsed().as_secs_f64();
    }
    manifest.finish(&run.output).await
}

fn add(summary: &mut JobSummary, manifest: &mut Manifest, done: Done) {
    let Done {
        record,
        chunk,
        compute,
        write,
        commit,
    } = done;
    summary.chunks_written += 1;
    summary.rows += record.rows;
    summary.invalid_rows += record.invalid;
    summary.bytes_read += chunk.bytes;
    summary.bytes_written += record.bytes;
    summary.seconds.compute += compute.as_secs_f64();
    summary.seconds.write += write.as_secs_f64();
    summary.seconds.commit += commit.as_secs_f64();
    manifest.loose.push(record.file.clone());
    manifest.records.insert(record.file.clone(), record);
}
