//! Choosing the index that a query is answered from.

use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use lakefold_manifold::Metric;
use object_store::ObjectMeta;

use super::catalog::{FoundIndex, IndexCatalog};
use super::fit::{Fit, REMEDY, compare, is_same};
use super::header::IndexHeader;
use super::open::OpenIndex;
use super::place::local_path;
use super::reading::text;

/// What a query needs of an index.
pub(crate) struct Wanted<'a> {
    /// The column of vectors.
    pub(crate) column: &'a str,
    pub(crate) metric: Metric,
    /// Candidates that its search would keep.
    pub(crate) ef_search: usize,
    /// Whether it is fit for the query otherwise.
    pub(crate) suits: &'a dyn Fn(&IndexHeader) -> bool,
    /// Whether it may have rows of files that are not asked about.
    pub(crate) may_have_more: bool,
    /// What is done where no index fits, for warnings.
    pub(crate) otherwise: &'a str,
}

/// Of the indexes of some files that fit the one that is expected to find most, with the file for each of its sources.
/// Where none fits, warns of those that are damaged, or did fit once.
pub(crate) fn choose(
    catalog: &IndexCatalog,
    store: &ObjectStoreUrl,
    files: &[PartitionedFile],
    wanted: &Wanted<'_>,
) -> Option<(FoundIndex, Vec<Option<PartitionedFile>>)> {
    let metas: Vec<&ObjectMeta> = files.iter().map(|file| &file.object_meta).collect();
    let mut best: Option<(f64, FoundIndex, Vec<Option<usize>>)> = None;
    let mut warnings = Vec::new();
    for entry in catalog.around(store, &metas.first()?.location) {
        let index = match entry {
            Ok(index) => index,
            Err(error) => {
                warnings.push(error);
                continue;
            }
        };
        let header = &index.header;
        let is_wanted = header.column == wanted.column
            && header.metric == wanted.metric.name()
            && (wanted.suits)(header);
        if !is_wanted {
            continue;
        }
        let found = match compare(header, &index.place.directory(), &metas) {
            Fit::Whole(found) => found.into_iter().map(Some).collect(),
            Fit::Part(found) => match missing(&index, &found) {
                None if wanted.may_have_more => found,
                None => continue,
                Some(missing) => {
                    warnings.push(stale(&index, &missing));
                    continue;
                }
            },
            Fit::Stale(why) => {
                warnings.push(stale(&index, &why));
                continue;
            }
            Fit::Other => continue,
        };
        let recall = header.expected_recall(wanted.ef_search).unwrap_or(0.0);
        if best.as_ref().is_none_or(|(known, ..)| recall > *known) {
            best = Some((recall, index, found));
        }
    }
    let Some((_, index, found)) = best else {
        for warning in warnings {
            tracing::warn!("{warning}; {}", wanted.otherwise);
        }
        return None;
    };
    let files = found
        .into_iter()
        .map(|place| place.and_then(|place| files.get(place).cloned()));
    Some((index, files.collect()))
}

fn stale(index: &FoundIndex, why: &str) -> String {
    format!(
        "the index '{}' of column '{}' is stale, because {why} since it was built: {REMEDY}",
        index.header.name, index.header.column
    )
}

/// A source that is not in the table, and not because a partition was ruled out: it is gone, or not the same. Of an
/// object store nobody is asked; rows of other files are left out either way.
fn missing(index: &FoundIndex, found: &[Option<usize>]) -> Option<String> {
    let directory = index.place.directory();
    if !directory.is_local() {
        return None;
    }
    let sources = index.header.sources.iter().zip(found);
    for (source, _) in sources.filter(|(_, place)| place.is_none()) {
        let location = directory.join(&source.path);
        let name = directory.name_of(&location);
        let path = local_path(&directory.store, &location).ok().flatten();
        let Some(meta) = path.and_then(|path| std::fs::metadata(path).ok()) else {
            return Some(format!("'{name}' was removed"));
        };
        let now = meta.modified().ok().map(|modified| ObjectMeta {
            location,
            last_modified: modified.into(),
            size: meta.len(),
            e_tag: None,
            version: None,
        });
        if !now.is_some_and(|now| is_same(source, &directory, &now)) {
            return Some(format!("'{name}' has changed"));
        }
    }
    None
}

impl IndexCatalog {
    /// Opens an index that was chosen. `None` if it was built again since then, and, with a warning, if it turns out
    /// to be damaged.
    pub(crate) async fn open_chosen(
        &self,
        chosen: &FoundIndex,
        env: &RuntimeEnv,
        otherwise: &str,
    ) -> Option<Arc<OpenIndex>> {
        match self.open(&chosen.place, env).await {
            Ok(index) => (index.header == chosen.header).then_some(index),
            Err(error) => {
                tracing::warn!("{}; {otherwise}", text(&error));
                None
            }
        }
    }
}
