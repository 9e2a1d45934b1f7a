//! What is written already, and what is left to do.

use std::collections::{HashMap, HashSet};

use datafusion::common::plan_err;
use datafusion::error::Result;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::chunks::Chunk;
use super::delta::DeltaOutput;
use super::manifest::{Manifest, Record, differences, is_record};
use super::output::{ASIDE, CONTROL, Output, OutputFile};
use super::plan::JobPlan;
use crate::delta::LOG;
use crate::format::Kind;

/// Files whose checksums are computed at the same time.
const CONCURRENT: usize = 4;
/// Names in a message.
const LISTED: usize = 3;

/// Compares plan and output, removes what a crash left aside, and returns the chunks to write.
///
/// # Errors
/// When the output is another job's, or this one's with other parameters or another version of an input
/// file, and the job does not say that it may be replaced; when the output holds files that no job
/// wrote; when a file of the output was altered.
pub(crate) async fn reconcile(
    plan: &JobPlan,
    output: &Output,
    delta: Option<&mut DeltaOutput>,
    manifest: &mut Manifest,
) -> Result<Vec<Chunk>> {
    let files = output.list().await?;
    let mut delta = delta;
    match &mut delta {
        Some(delta) => {
            delta.load(output, plan.job.overwrite).await?;
            delta.check(plan)?;
        }
        None => check_no_table(plan, &files)?,
    }
    *manifest = Manifest::default();
    match Manifest::load(output, &files).await {
        Ok(found) => *manifest = found,
        Err(error) if !plan.job.overwrite => return Err(error),
        Err(error) => tracing::warn!("written anew, because {}", error.strip_backtrace()),
    }
    let aside: Vec<String> = below(&files, ASIDE).collect();
    output.remove(&aside).await?;
    let replaced = check_definition(plan, manifest)?;
    // What is no file of the table does not matter to its readers.
    if delta.as_ref().is_none_or(|delta| !delta.is_table()) {
        check_foreign(plan, manifest, &files)?;
    }
    if replaced {
        let mut old: Vec<String> = manifest.records.keys().cloned().collect();
        if let Some(delta) = &mut delta {
            delta.replace(output).await?;
            old = delta.unused(old);
        }
        output.remove(&old).await?;
        let records = files.iter().filter(|file| is_record(&file.name));
        let records: Vec<String> = records.map(|file| file.name.clone()).collect();
        output.remove(&records).await?;
        *manifest = Manifest::default();
    }
    manifest.begin(output, &plan.kept_definition()).await?;
    let Changes {
        mut changed,
        mut vanished,
    } = changes(plan, manifest);
    if plan.input.version.is_some() {
        // The input's log says that their rows are gone, or in other files.
        changed.append(&mut vanished);
    }
    if let Some(first) = changed.first()
        && !plan.job.incremental
        && !plan.job.overwrite
    {
        return plan_err!(
            "the input file '{}' has {} since it was written to '{}' as '{}': --incremental writes \
             the output of new and changed files, --overwrite allows any change",
            first.input.path,
            if is_there(plan, first) {
                "changed"
            } else {
                "been removed from the input's table"
            },
            plan.job.output,
            first.file
        );
    }
    let mut gone: Vec<String> = changed.iter().map(|record| record.file.clone()).collect();
    if plan.job.overwrite {
        gone.extend(vanished.iter().map(|record| record.file.clone()));
    } else if !vanished.is_empty() {
        tracing::warn!(
            "{} file(s) of '{}' are from input files that are no longer there, such as '{}': they are \
             kept; --overwrite removes them",
            vanished.len(),
            plan.job.output,
            vanished[0].input.path
        );
    }
    if !gone.is_empty() {
        let mut removed = gone.clone();
        if let Some(delta) = &delta {
            delta.check_removable(plan, changed.iter())?;
            removed = delta.unused(removed);
        }
        output.remove(&removed).await?;
        manifest.forget(output, &gone).await?;
    }
    unwritten(plan, output, delta.as_deref(), manifest, &files).await
}

fn is_there(plan: &JobPlan, record: &Record) -> bool {
    let mut files = plan.input.files.iter();
    files.any(|file| file.stamp.path == record.input.path)
}

/// Files under a log are not to be replaced without it.
fn check_no_table(plan: &JobPlan, files: &[OutputFile]) -> Result<()> {
    if below(files, LOG).next().is_none() {
        return Ok(());
    }
    plan_err!(
        "'{}' is a Delta Lake table: write to it with --format delta, or choose another output",
        plan.job.output
    )
}

fn below<'a>(files: &'a [OutputFile], directory: &'a str) -> impl Iterator<Item = String> + 'a {
    files
        .iter()
        .filter(move |file| {
            file.name
                .strip_prefix(directory)
                .is_some_and(|rest| rest.starts_with('/'))
        })
        .map(|file| file.name.clone())
}

/// Whether the output is to be replaced as a whole.
fn check_definition(plan: &JobPlan, manifest: &Manifest) -> Result<bool> {
    let Some(old) = &manifest.definition else {
        return Ok(plan.job.overwrite);
    };
    let new = plan.kept_definition();
    if *old == new {
        return Ok(false);
    }
    if plan.job.overwrite {
        return Ok(true);
    }
    plan_err!(
        "'{}' was written by another job ({}): choose another output, or replace all of it with \
         --overwrite",
        plan.job.output,
        differences(old, &new).join("; ")
    )
}

/// Files that are read with the table and that no job wrote.
fn check_foreign(plan: &JobPlan, manifest: &Manifest, files: &[OutputFile]) -> Result<()> {
    let foreign: Vec<&str> = files
        .iter()
        .map(|file| file.name.as_str())
        .filter(|name| !name.starts_with(&format!("{CONTROL}/")))
        .filter(|name| Kind::of(&Path::from(*name)).is_some())
        .filter(|name| !manifest.records.contains_key(*name))
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let shown = foreign.iter().take(LISTED).map(|name| format!("'{name}'"));
    let shown = shown.collect::<Vec<_>>().join(", ");
    if plan.job.overwrite {
        tracing::warn!(
            "'{}' holds {} file(s) that no job wrote, such as {shown}: those with a name of the job's are \
             replaced, the others stay and are read with the table",
            plan.job.output,
            foreign.len()
        );
        return Ok(());
    }
    plan_err!(
        "'{}' holds {} file(s) that no job wrote, which would be read with its output: {shown}; choose an \
         empty directory, or move them away",
        plan.job.output,
        foreign.len()
    )
}

struct Changes {
    /// Of input files that are there and are not what they were.
    changed: Vec<Record>,
    /// Of input files that are not there.
    vanished: Vec<Record>,
}

fn changes(plan: &JobPlan, manifest: &Manifest) -> Changes {
    let inputs: HashMap<&str, _> = plan
        .input
        .files
        .iter()
        .map(|file| (file.stamp.path.as_str(), &file.stamp))
        .collect();
    let planned: HashSet<&str> = plan
        .chunks
        .iter()
        .map(|chunk| chunk.name.as_str())
        .collect();
    let (mut changed, mut vanished) = (Vec::new(), Vec::new());
    for record in manifest.records.values() {
        match inputs.get(record.input.path.as_str()) {
            None => vanished.push(record.clone()),
            Some(stamp) if **stamp != record.input || !planned.contains(record.file.as_str()) => {
                changed.push(record.clone());
            }
            Some(_) => {}
        }
    }
    Changes { changed, vanished }
}

/// The planned chunks without a good file.
async fn unwritten(
    plan: &JobPlan,
    output: &Output,
    delta: Option<&DeltaOutput>,
    manifest: &Manifest,
    files: &[OutputFile],
) -> Result<Vec<Chunk>> {
    let sizes: HashMap<&str, u64> = files
        .iter()
        .map(|file| (file.name.as_str(), file.bytes))
        .collect();
    let loose: HashSet<&str> = manifest.loose.iter().map(String::as_str).collect();
    let (sizes, loose) = (&sizes, &loose);
    let checked: Vec<Option<Chunk>> = futures::stream::iter(&plan.chunks)
        .map(|chunk| async move {
            let todo = || Ok(Some(chunk.clone()));
            let Some(record) = manifest.records.get(&chunk.name) else {
                return todo();
            };
            let taken_out = delta.is_some_and(|delta| delta.is_taken_out(&chunk.name));
            if taken_out && !plan.job.overwrite {
                return Ok(None);
            }
            let Some(size) = sizes.get(chunk.name.as_str()) else {
                // Removed by someone, or never shown: it will be the same file again.
                return todo();
            };
            let is_loose = loose.contains(chunk.name.as_str());
            // Files of a run that ended well are trusted by their size.
            let same = *size == record.bytes
                && (!(is_loose || plan.job.verify)
                    || output.digest(&chunk.name).await?
                        == Some((record.sha256.clone(), record.bytes)));
            match same {
                true => Ok(None),
                // The crash came between the record and its file, where an older file was.
                false if is_loose || plan.job.overwrite => todo(),
                false => plan_err!(
                    "'{}' in '{}' was altered after the job wrote it ({size} bytes, recorded were {} with \
                     SHA-256 {}): restore or delete it, or replace it with --overwrite",
                    chunk.name,
                    plan.job.output,
                    record.bytes,
                    record.sha256
                ),
            }
        })
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    Ok(checked.into_iter().flatten().collect())
}
