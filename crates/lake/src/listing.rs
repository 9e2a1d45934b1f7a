//! From a location to the files it stands for.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use futures::{StreamExt, TryStreamExt};
use glob::MatchOptions;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::Location;
use crate::delta::{ActiveFiles, LOG, active_files};
use crate::format::{self, Kind};
use crate::natural_order::natural_cmp;
use crate::partitions::{Partitions, read_partitions};
use crate::schema::merge;

/// Directories listed at the same time.
const CONCURRENT_LISTINGS: usize = 16;

/// As in a shell: `*` does not cross a `/`, and does not match a leading dot.
const GLOB_OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The files of a location: all of one format, in natural order of their paths.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where they are.
    pub store: Arc<dyn ObjectStore>,
    /// At least one.
    pub files: Vec<ObjectMeta>,
    pub(crate) kind: Kind,
    /// What the log says, where the location is a Delta Lake table.
    pub(crate) delta: Option<ActiveFiles>,
}

impl Files {
    /// Partition columns: those of the log, else of the paths.
    ///
    /// # Errors
    /// When files have different ones.
    pub(crate) fn partitions(&self, location: &Location) -> Result<Partitions> {
        match &self.delta {
            Some(active) => Ok(active.partitions.clone()),
            None => read_partitions(location, &self.files),
        }
    }

    /// One schema for the files, whose own are given.
    ///
    /// # Errors
    /// When they do not agree with each other, or with the log of a Delta Lake table.
    pub(crate) fn merged(&self, location: &Location, schemas: &[SchemaRef]) -> Result<SchemaRef> {
        match &self.delta {
            Some(active) => active.columns(location, &self.files, schemas),
            None => merge(location, &self.files, schemas),
        }
    }
}

/// Lists the files that a location stands for. Of a directory these are the data files in it and
/// in its hive partitions; names that start with `_` or `.` are left out. Of a directory that is a
/// Delta Lake table these are the files of its newest version, as its log says.
///
/// # Errors
/// When there is no such file or directory, or no data file in it, or several formats, or a Delta
/// Lake table cannot be read, or the store is not registered or fails.
pub async fn list_files(state: &SessionState, location: &Location) -> Result<Files> {
    list_version(state, location, None).await
}

/// The same, of a version of a Delta Lake table; `None` for its newest.
///
/// # Errors
/// As [`list_files`]; and when a version is asked for of what is no such table, or has it not.
pub(crate) async fn list_version(
    state: &SessionState,
    location: &Location,
    version: Option<u64>,
) -> Result<Files> {
    let files = list(state, location, version).await?;
    if version.is_some() && files.delta.is_none() {
        return plan_err!(
            "'{}' is no Delta Lake table, it has no versions: leave the version out",
            location.text()
        );
    }
    Ok(files)
}

async fn list(state: &SessionState, location: &Location, version: Option<u64>) -> Result<Files> {
    let store = state
        .runtime_env()
        .object_store(location.object_store_url());
    let store = store.map_err(|error| match error {
        // DataFusion's own registry.
        DataFusionError::Internal(_) => plan_datafusion_err!(
            "no object store is registered for '{}': only local files are read unless the session \
             registers a store for that URL",
            location.text()
        ),
        error => error.context(format!("cannot read '{}'", location.text())),
    })?;
    if location.glob().is_none() && !location.is_directory() {
        match store.head(location.prefix()).await {
            Ok(file) => {
                let kind = format::kind_of_file(location, store.as_ref(), &file).await?;
                return Ok(Files {
                    store,
                    files: vec![file],
                    kind,
                    delta: None,
                });
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(unreadable(location, error)),
        }
    }
    let Some(mut files) = walk(location, store.as_ref()).await? else {
        let (files, active) = active_files(location, &store, version).await?;
        return Ok(Files {
            store,
            files,
            kind: Kind::plain("parquet"),
            delta: Some(active),
        });
    };
    if files.is_empty() {
        return Err(nothing_found(location, store.as_ref()).await);
    }
    files.sort_by(|a, b| natural_cmp(a.location.as_ref(), b.location.as_ref()));
    let (kind, files) = format::one_kind(location, files)?;
    Ok(Files {
        store,
        files,
        kind,
        delta: None,
    })
}

/// Lists level by level, into the directories that can matter; `None` for a Delta Lake table.
async fn walk(location: &Location, store: &dyn ObjectStore) -> Result<Option<Vec<ObjectMeta>>> {
    let mut found = Vec::new();
    let mut level = vec![location.prefix().clone()];
    let mut depth = 0;
    while !level.is_empty() {
        let listings: Vec<_> = futures::stream::iter(level)
            .map(|directory| async move { store.list_with_delimiter(Some(&directory)).await })
            .buffered(CONCURRENT_LISTINGS)
            .try_collect()
            .await
            .map_err(|error| unreadable(location, error))?;
        depth += 1;
        level = Vec::new();
        for listing in listings {
            if location.glob().is_none() && listing.common_prefixes.iter().any(is_log) {
                if depth == 1 {
                    return Ok(None);
                }
                return plan_err!(
                    "'{}' has a Delta Lake table in one of its directories, and only its log says which \
                     files are the table: read that directory by itself",
                    location.text()
                );
            }
            found.extend(
                listing
                    .objects
                    .into_iter()
                    .filter(|file| is_wanted(location, &file.location)),
            );
            let directories = listing.common_prefixes.into_iter();
            level.extend(directories.filter(|path| is_entered(location, path, depth)));
        }
    }
    Ok(Some(found))
}

fn is_log(directory: &Path) -> bool {
    directory.filename() == Some(LOG)
}

fn is_wanted(location: &Location, file: &Path) -> bool {
    let Some(below) = below(location, file) else {
        return false;
    };
    match location.glob() {
        Some(glob) => glob.matches_with(&below, GLOB_OPTIONS),
        None => !is_hidden(file),
    }
}

/// A directory is entered if it is a hive partition, or if a glob reaches below it.
fn is_entered(location: &Location, directory: &Path, depth: usize) -> bool {
    let Some(name) = directory.filename() else {
        return false;
    };
    let reached_by_glob = location.glob().is_some_and(|glob| {
        let pattern = glob.as_str();
        pattern.contains("**") || pattern.matches('/').count() >= depth
    });
    !is_hidden(directory) && (reached_by_glob || (location.glob().is_none() && name.contains('=')))
}

fn is_hidden(path: &Path) -> bool {
    // `_symlink=…` would be a partition; a lone underscore marks metadata such as _SUCCESS.
    path.filename()
        .is_some_and(|name| name.starts_with('.') || (name.starts_with('_') && !name.contains('=')))
}

fn below(location: &Location, file: &Path) -> Option<String> {
    let parts: Vec<String> = file
        .prefix_match(location.prefix())?
        .map(|part| part.as_ref().to_owned())
        .collect();
    Some(parts.join("/"))
}

/// Says where was looked, and what is there instead.
async fn nothing_found(location: &Location, store: &dyn ObjectStore) -> DataFusionError {
    let text = location.text();
    let prefix = location.prefix();
    let braces = if text.contains('{') {
        "; braces are not expanded: write [ab] for one of several characters, or UNION ALL"
    } else {
        ""
    };
    if location.glob().is_some() {
        let base = location.name_of(prefix);
        return plan_datafusion_err!("no file matches '{text}' (looked in '{base}'){braces}");
    }
    let here = store.list_with_delimiter(Some(prefix)).await.ok();
    if here.is_some_and(|here| !here.common_prefixes.is_empty() || !here.objects.is_empty()) {
        return plan_datafusion_err!(
            "no data files directly in '{text}': subdirectories are read only where they are named \
             'column=value'; use a glob such as '{}/**/*.parquet' for all below it",
            text.trim_end_matches('/')
        );
    }
    if location.is_directory() {
        let name = location.name_of(prefix);
        return plan_datafusion_err!("no files in directory '{text}' (looked in '{name}')");
    }
    let mut parts: Vec<_> = prefix.parts().collect();
    parts.pop();
    let parent: Path = parts.into_iter().collect();
    let looked_in = location.name_of(&parent);
    let mut names: Vec<String> = match store.list_with_delimiter(Some(&parent)).await {
        Ok(listing) => listing
            .objects
            .iter()
            .filter(|file| Kind::of(&file.location).is_some())
            .filter_map(|file| file.location.filename().map(|name| format!("'{name}'")))
            .collect(),
        Err(_) => Vec::new(),
    };
    names.sort_by(|a, b| natural_cmp(a, b));
    let there = match names.len() {
        0 => "no data files are there".to_owned(),
        1..=5 => format!("there are: {}", names.join(", ")),
        count => format!(
            "there are {count} others, such as {}",
            names[..3].join(", ")
        ),
    };
    plan_datafusion_err!("no file '{text}' (looked in '{looked_in}'); {there}{braces}")
}

fn unreadable(location: &Location, error: object_store::Error) -> DataFusionError {
    let error = DataFusionError::from(error);
    error.context(format!("cannot read '{}'", location.text()))
}
