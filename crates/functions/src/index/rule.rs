//! The optimizer rule that answers `ORDER BY distance LIMIT k` from an index.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use lakefold_manifold::{HnswOptions, Metric};

use super::catalog::IndexCatalog;
use super::choose::{Wanted, choose};
use super::distance::{NearestQuery, nearest_query};
use super::exec::{EXACTLY, HnswScanExec, most_candidates};
use super::header::IndexHeader;
use super::options::HnswSettings;
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
        let Some((query, at_scan)) = nearest_query(sort)? else {
            return Ok(None);
        };
        let suits = |header: &IndexHeader| {
            !query.is_undefined()
                && header.dimensions == query.query.len()
                && query.k <= most_candidates(header.rows)
        };
        let wanted = Wanted {
            column: &query.column,
            metric: query.metric,
            ef_search: ef_search(options).max(query.k),
            suits: &suits,
            may_have_more: true,
            otherwise: EXACTLY,
        };
        let scan = at_scan.scan;
        let Some((found, files)) = choose(
            &self.catalog,
            &scan.object_store_url,
            &at_scan.files,
            &wanted,
        ) else {
            return Ok(None);
        };
        let scan = IndexScan {
            catalog: Arc::clone(&self.catalog),
            found,
            files,
            query,
            ef_search: ef_search(options),
            scan: scan.clone(),
            rows: Arc::clone(sort.input()),
        };
        Ok(Some(Arc::new(HnswScanExec::new(
            Arc::new(scan),
            Arc::clone(sort.input()),
        ))))
    }
}

fn ef_search(options: &HnswSettings) -> usize {
    options.ef_search.clamp(1, HnswOptions::LARGEST_EF)
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
