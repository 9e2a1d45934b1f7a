//! What is written already, and what is left to do.

use std::collections::{HashMap, HashSet};

use datafusion::common::plan_err;
use datafusion::error::Result;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::chunks::Chunk;
use super::manifest::{Manifest, Record, differences, is_record};
use super::output::{ASIDE, CONTROL, Output, OutputFile};
use super::plan::JobPlan;
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
    manifest: &mut Manifest,
) -> Result<Vec<Chunk>> {
    let files = output.list().await?;
    *manifest = Manifest::default();
    match Manifest::load(output, &files).await {
        Ok(found) => *manifest = found,
        Err(error) if !plan.job.overwrite => return Err(error),
        Err(error) => tracing::warn!("written anew, because {}", error.strip_backtrace()),
    }
    let aside: Vec<String> = below(&files, ASIDE).collect();
    output.remove(&aside).await?;
    let replaced = check_definition(plan, manifest)?;
    check_foreign(plan, manifest, &files)?;
    if replaced {
        let old: Vec<String> = manifest.records.keys().cloned().collect();
        output.remove(&old).await?;
        let records = files.iter().filter(|file| is_record(&file.name));
        let records: Vec<String> = records.map(|file| file.name.clone()).collect();
        output.remove(&records).await?;
        *manifest = Manifest::default();
    }
    manifest.begin(output, &plan.definition).await?;
    let Changes { changed, vanished } = changes(plan, manifest);
    if let Some(first) = changed.first()
        && !plan.job.incremental
        && !plan.job.overwrite
    {
        return plan_err!(
            "the input file '{}' has changed since it was written to '{}' as '{}': --incremental writes \
             the output of new and changed files, --overwrite allows any change",
            first.input.path,
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
        output.remove(&gone).await?;
        manifest.forget(output, &gone).await?;
    }
    unwritten(plan, output, manifest, &files).await
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
    if *old == plan.definition {
        return Ok(false);
    }
    if plan.job.overwrite {
        return Ok(true);
    }
    plan_err!(
        "'{}' was written by another job ({}): choose another output, or replace all of it with \
         --overwrite",
        plan.job.output,
        differences(old, &plan.definition).join("; ")
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
