//! The optimizer rule that answers `ORDER BY distance LIMIT k` from an index.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use lakefold_manifold::{HnswOptions, Metric};
use object_store::ObjectMeta;

use super::catalog::{FoundIndex, IndexCatalog};
use super::distance::{NearestQuery, nearest_query};
use super::exec::{HnswScanExec, most_candidates};
use super::fit::{Fit, REMEDY, compare, is_same};
use super::options::HnswSettings;
use super::place::local_path;
use super::scan::IndexScan;

/// Puts an [`HnswScanExec`] under a sort by the distance of a column to a constant vector that keeps k rows, where
/// the column of the Parquet files below has an index that fits: of the same metric and dimensions, built from
/// files that are still the same. The sort stays, and decides the order by exact distances.
///
/// It must run before the rules that give the files' scan more to do.
#[derive(Debug)]
pub struct SearchWithHnsw {
    catalog: Arc<IndexCatalog>,
}

impl SearchWithHnsw {
    /// What [`PhysicalOptimizerRule::name`] returns.
    pub const NAME: &'static str = "search_with_hnsw";

    /// With the indexes that a session knows.
    pub fn new(catalog: Arc<IndexCatalog>) -> Self {
        Self { catalog }
    }

    fn search(
        &self,
        sort: &SortExec,
        options: &HnswSettings,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some((query, scan)) = nearest_query(sort)? else {
            return Ok(None);
        };
        let Some((found, files)) = self.index_for(&query, &scan, options) else {
            return Ok(None);
        };
        let scan = IndexScan {
            catalog: Arc::clone(&self.catalog),
            found,
            files,
            query,
            ef_search: ef_search(options),
            scan,
            rows: Arc::clone(sort.input()),
        };
        Ok(Some(Arc::new(HnswScanExec::new(
            Arc::new(scan),
            Arc::clone(sort.input()),
        ))))
    }

    /// The best index of those that fit, with the scan's file for each of its sources.
    fn index_for(
        &self,
        query: &NearestQuery,
        scan: &FileScanConfig,
        options: &HnswSettings,
    ) -> Option<(FoundIndex, Vec<Option<PartitionedFile>>)> {
        let files: Vec<&PartitionedFile> =
            scan.file_groups.iter().flat_map(FileGroup::iter).collect();
        let metas: Vec<&ObjectMeta> = files.iter().map(|file| &file.object_meta).collect();
        let mut best: Option<(f64, FoundIndex, Vec<Option<usize>>)> = None;
        let mut warnings = Vec::new();
        for entry in self
            .catalog
            .around(&scan.object_store_url, &metas.first()?.location)
        {
            let index = match entry {
                Ok(index) => index,
                Err(error) => {
                    warnings.push(error);
                    continue;
                }
            };
            let header = &index.header;
            let is_asked_for = !query.is_undefined()
                && header.column == query.column
                && header.metric == query.metric.name()
                && header.dimensions == query.query.len()
                && query.k <= most_candidates(header.rows);
            if !is_asked_for {
                continue;
            }
            let found = match compare(header, &index.place.directory(), &metas) {
                Fit::Whole(found) => found.into_iter().map(Some).collect(),
                Fit::Part(found) => match missing(&index, &found) {
                    None => found,
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
            let recall = header.expected_recall(ef_search(options).max(query.k));
            let recall = recall.unwrap_or(0.0);
            if best.as_ref().is_none_or(|(known, ..)| recall > *known) {
                best = Some((recall, index, found));
            }
        }
        let Some((_, index, found)) = best else {
            for warning in warnings {
                tracing::warn!("{warning}; the query is answered exactly, by comparing every row");
            }
            return None;
        };
        let files = found
            .into_iter()
            .map(|place| place.and_then(|place| files.get(place).map(|file| (*file).clone())));
        Some((index, files.collect()))
    }
}

fn ef_search(options: &HnswSettings) -> usize {
    options.ef_search.clamp(1, HnswOptions::LARGEST_EF)
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

impl PhysicalOptimizerRule for SearchWithHnsw {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = HnswSettings::of(config);
        if !options.enabled {
            return Ok(plan);
        }
        plan.transform_up(|node| {
            let Some(sort) = node.downcast_ref::<SortExec>() else {
                return Ok(Transformed::no(node));
            };
            match self.search(sort, &options)? {
                Some(input) => Arc::clone(&node)
                    .replace_children(
                        vec![input],
                        ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
                    )
                    .map(Transformed::yes),
                None => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        Self::NAME
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl NearestQuery {
    /// Whether the query has no direction, which cosine distance is NULL for.
    pub(crate) fn is_undefined(&self) -> bool {
        self.metric == Metric::Cosine && self.query.iter().all(|value| *value == 0.0)
    }
}
